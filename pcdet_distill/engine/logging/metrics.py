"""``metrics.jsonl`` for programs and TensorBoard for curves."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .folders import writing


def _number(value: Any) -> float | None:
    """``value`` as a float when it is one number."""
    if isinstance(value, torch.Tensor):
        return float(value.detach()) if value.numel() == 1 else None
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        return None
    return float(value)


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """The entries of ``values`` that are one number, as floats. On CUDA this waits for the device."""
    converted = {key: _number(value) for key, value in values.items()}
    return {key: value for key, value in converted.items() if value is not None}


class MetricWriter:
    """``metrics.jsonl`` (one object a line) and TensorBoard event files."""

    def __init__(self, jsonl_path: Path, tensorboard_dir: Path, *, first_it: int = 0) -> None:
        """Lines after iteration ``first_it`` are dropped: an earlier run came further and is repeated from there."""
        from tensorboardX import SummaryWriter  # 0.3 s that `import pcdet_distill` need not pay

        self.path = jsonl_path
        with writing(jsonl_path):
            self._drop_after(first_it)
        with writing(tensorboard_dir):
            self.tensorboard = SummaryWriter(
                str(tensorboard_dir), purge_step=first_it if first_it else None
            )

    def _drop_after(self, first_it: int) -> None:
        """Keep the lines up to iteration ``first_it``."""
        if not self.path.exists():
            return
        lines = [
            line
            for line in self.path.read_text(errors="replace").splitlines()
            if _iteration(line) <= first_it
        ]
        self.path.write_text("".join(line + "\n" for line in lines))

    def write(
        self,
        kind: str,
        it: int,
        values: Mapping[str, Any],
        curves: Mapping[str, float] | None = None,
    ) -> None:
        """Add one line ``{"kind": kind, "it": it, **values}`` and the TensorBoard ``curves`` at step ``it``."""
        finite = {
            key: value if not isinstance(value, float) or math.isfinite(value) else str(value)
            for key, value in values.items()
        }
        with writing(self.path), self.path.open("a") as file:
            file.write(json.dumps({"kind": kind, "it": it, **finite}) + "\n")
        for tag, value in (curves or {}).items():
            self.tensorboard.add_scalar(tag, value, it)

    def close(self) -> None:
        """Flush TensorBoard."""
        self.tensorboard.close()


def _iteration(line: str) -> int:
    """The iteration of a line of metrics.jsonl; a line cut off by a kill counts as later than all."""
    try:
        return int(json.loads(line)["it"])
    except (ValueError, KeyError, TypeError):
        return 2**62
