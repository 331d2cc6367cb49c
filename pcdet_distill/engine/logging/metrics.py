"""``metrics.jsonl`` for programs and TensorBoard for curves."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from torch import Tensor

from ...whole_files import whole_file
from .curves import Curves
from .folders import writing

# What a model reports of a step: losses, counts and the like.
LogValues: TypeAlias = Mapping[str, Tensor | float]


def numbers(values: Mapping[str, object]) -> dict[str, float]:
    """The entries of ``values`` that are one number, as floats. This waits for a CUDA device."""
    found = {}
    for key, value in values.items():
        number = _number(value)
        if number is not None:
            found[key] = number
    return found


def _number(value: object) -> float | None:
    """``value`` as a float when it is one number."""
    if isinstance(value, Tensor):
        return float(value.detach()) if value.numel() == 1 else None
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        return None
    return float(value)


class MetricWriter:
    """Writes ``metrics.jsonl``, one object a line, and TensorBoard's event files.

    Args:
        jsonl_path: continued when it exists.
        tensorboard_dir: receives another event file.
        keep_until: records after this iteration are dropped, because an earlier run came further
            and is repeated from there. None keeps all.
    """

    def __init__(
        self, jsonl_path: Path, tensorboard_dir: Path, *, keep_until: int | None = None
    ) -> None:
        self.path = jsonl_path
        with writing(jsonl_path):
            jsonl_path.open("a").close()  # a file that cannot be written is reported now
            if keep_until is not None:
                self._drop_after(keep_until)
        self.curves = Curves(tensorboard_dir, from_step=keep_until + 1 if keep_until else None)

    def _drop_after(self, iteration: int) -> None:
        """Keep the lines up to ``iteration``."""
        lines = self.path.read_text(errors="replace").splitlines()
        kept = [line + "\n" for line in lines if _iteration(line) <= iteration]
        # A kill or a full disk in the middle must not cost the records of before.
        with whole_file(self.path) as partial:
            partial.write_text("".join(kept))

    def write(
        self,
        kind: str,
        it: int,
        values: Mapping[str, object],
        curves: Mapping[str, float] | None = None,
    ) -> None:
        """Add one record.

        Args:
            kind: train, eval or cost.
            it: iteration or epoch of the record.
            values: the line of metrics.jsonl is ``{"kind": kind, "it": it, **values}``.
            curves: TensorBoard's points at step ``it``.
        """
        record = {"kind": kind, "it": it}
        for key, value in values.items():
            record[key] = _json_value(value)
        with writing(self.path), self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        if curves:
            self.curves.add(curves, it)

    def close(self) -> None:
        """Close TensorBoard's file."""
        self.curves.close()


def _json_value(value: object) -> object:
    """Infinity and NaN as text: json has no such numbers."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _iteration(line: str) -> float:
    """The iteration of a line of metrics.jsonl; infinity for one that a kill has cut off."""
    try:
        return int(json.loads(line)["it"])
    except (ValueError, KeyError, TypeError):
        return math.inf
