"""What a run tells: a log for people, ``metrics.jsonl`` for programs, TensorBoard for curves. Rank 0 only.

The log file is opened late (``open_log_file``): until the input has proved good nothing is written, and the lines
said before are kept for it.
"""

from __future__ import annotations

import json
import logging
import math
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from tqdm import tqdm

from .. import __version__
from ..config import to_plain
from ..errors import ConfigError

LOGGER_NAME = "pcdet_distill"
NOT_CONFIG = (
    "ROOT_DIR",
    "TAG",
    "EXP_GROUP_PATH",
    "CONFIG_FILE",
)  # what load_config adds to the yaml's keys


class _ScreenHandler(logging.Handler):
    """Lines on the screen that do not break a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stdout)
        sys.stdout.flush()


def create_logger(is_main: bool = True) -> logging.Logger:
    """The logger of a run: the screen shows INFO, the file (later) also DEBUG; other ranks show errors only."""
    logger = logging.getLogger(LOGGER_NAME)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.propagate = False
    logger.setLevel(logging.DEBUG if is_main else logging.ERROR)
    screen = _ScreenHandler(logging.INFO)
    screen.setFormatter(logging.Formatter("%(asctime)s  %(message)s", datefmt="%H:%M:%S"))
    logger.addHandler(screen)
    if is_main:
        logger.addHandler(
            MemoryHandler(capacity=10**6, flushLevel=logging.CRITICAL + 1, flushOnClose=False)
        )
    return logger


def open_log_file(logger: logging.Logger, path: Path) -> None:
    """Write to ``path`` from now on, beginning with everything said so far."""
    with writing(path):
        target = logging.FileHandler(path)
    target.setFormatter(logging.Formatter("%(asctime)s  %(levelname)5s  %(message)s"))
    for handler in list(logger.handlers):
        if isinstance(handler, MemoryHandler):
            handler.setTarget(target)
            handler.flush()
            logger.removeHandler(handler)
    logger.addHandler(target)


def _git_hash() -> str:
    """The commit of this source tree; 'no git' for an installed package."""
    command = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--dirty",
        "--exclude=*",
    ]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "no git"


def environment() -> dict[str, str]:
    """What ran: versions, commit, device, command."""
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "pcdet_distill": __version__,
        "git": _git_hash(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "cuda device": cuda,
        "command": " ".join(sys.argv),
    }


def config_text(cfg: Mapping[str, Any]) -> str:
    """The whole config as yaml, innermost blocks on one line."""
    plain = {key: value for key, value in to_plain(cfg).items() if key not in NOT_CONFIG}
    return yaml.safe_dump(plain, default_flow_style=None, sort_keys=False, width=120)


def write_config(cfg: Mapping[str, Any], path: Path) -> None:
    """The resolved config, under a heading of comments that say what ran. ``--cfg_file`` takes it."""
    heading = "".join(f"# {name}: {value}\n" for name, value in environment().items())
    with writing(path):
        path.write_text(heading + config_text(cfg))


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A full or vanished disk is one sentence about ``path``."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror or error})") from None


def make_folder(folder: Path) -> Path:
    """Create ``folder``, or say in one sentence why it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error.strerror or str(error)) from None
    check_writable(folder)
    return folder


def check_writable(folder: Path) -> None:
    """Raise ConfigError when ``folder`` could not be made or written. Creates nothing."""
    existing = next(
        path for path in (folder, *folder.parents) if path.exists() or path.is_symlink()
    )
    if not existing.is_dir():
        raise _unwritable(folder, f"'{existing}' is not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise _unwritable(folder, f"no permission to write in '{existing}'")


def _unwritable(folder: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"output folder '{folder}' cannot be written: {reason}; expected a folder you may write in"
    )


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


def duration_text(seconds: float) -> str:
    """``1:12`` minutes or ``2:01:12`` hours."""
    whole = max(int(seconds + 0.5), 0)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def rate_text(lr: float) -> str:
    """``2.1e-3``."""
    mantissa, exponent = f"{lr:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def value_text(value: float) -> str:
    """Three significant digits, as ``1.42``, ``0.0312`` or ``134``."""
    if not math.isfinite(value):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}"
