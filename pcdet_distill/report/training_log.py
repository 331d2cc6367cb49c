"""What ``metrics.jsonl`` of a training tells: losses by term, the state of adapters, the cost."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import DataError

FILE = "metrics.jsonl"
# Entries of a line that are no loss.
NOT_LOSSES = ("it", "epoch", "lr", "grad_norm", "data_ms", "step_ms")
DISTILLED = "distill_"
PARTIAL_SUMS = ("distill", "distill_loss")
# What terms that change the batch count. They have no loss whose name would tell them apart.
COUNTS = ("_unlabelled", "_added")


@dataclass(frozen=True)
class Series:
    """Values at iterations."""

    its: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    @property
    def last(self) -> float:
        """The newest value."""
        return self.values[-1]


@dataclass(frozen=True)
class TrainingLog:
    """One training, resumed ones included.

    Attributes:
        losses: by name, the whole ``loss`` first.
        health: what the terms of DISTILL watch, by name.
        others: learning rate, norm of the gradient, milliseconds of a step.
        cost: wall-clock and processor seconds of the last line about them; empty without one.
        epochs: the last epoch.
    """

    losses: dict[str, Series]
    health: dict[str, Series]
    others: dict[str, Series]
    cost: dict[str, float]
    epochs: int


def read_training_log(folder: Path) -> TrainingLog | None:
    """The log of a run's folder; None where it has none."""
    file = folder / FILE
    if not file.is_file():
        return None
    series: dict[str, Series] = {}
    cost: dict[str, float] = {}
    epochs = 0
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror or error})") from None
    for line in lines:
        record = _parsed(line)
        if record.get("kind") == "cost":
            cost = {key: _number(record.get(key)) or 0.0 for key in ("wall_s", "cpu_s")}
        if record.get("kind") == "train":
            epochs = int(_number(record.get("epoch")) or epochs)
            _add(series, record)
    if not series:
        return None
    return _sorted(series, cost, epochs)


def has_training_log(folder: Path) -> bool:
    """Whether ``read_training_log`` finds one. Reads no further than the first number."""
    file = folder / FILE
    if not file.is_file():
        return False
    series: dict[str, Series] = {}
    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                record = _parsed(line)
                if record.get("kind") == "train":
                    _add(series, record)
                if series:
                    return True
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror or error})") from None
    return False


def _parsed(line: str) -> dict[str, object]:
    """One line; empty for one that a kill has cut off."""
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) and "it" in record else {}


def _add(series: dict[str, Series], record: dict[str, object]) -> None:
    iteration = int(float(str(record["it"])))
    for key, value in record.items():
        if key in ("kind", "it"):
            continue
        number = _number(value)
        if number is not None:
            entry = series.setdefault(key, Series())
            entry.its.append(iteration)
            entry.values.append(number)


def _number(value: object) -> float | None:
    """A number, also one that json holds as text: infinity and NaN."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def _sorted(series: dict[str, Series], cost: dict[str, float], epochs: int) -> TrainingLog:
    terms = [name for name in series if name.startswith(DISTILLED)]
    losses: dict[str, Series] = {}
    health: dict[str, Series] = {}
    others: dict[str, Series] = {}
    for name, entry in series.items():
        if name in NOT_LOSSES:
            others[name] = entry
        elif name != "distill_loss" and _is_watched(name, terms):
            health[name.removeprefix(DISTILLED)] = entry
        elif any(map(math.isfinite, entry.values)):
            losses[name] = entry
    return TrainingLog(_without_doubles(losses), health, others, cost, epochs)


def _is_watched(name: str, terms: Sequence[str]) -> bool:
    """Whether a value is what a term watches: its name is that of a term, and one word more."""
    is_count = name.startswith(DISTILLED) and name.endswith(COUNTS)
    return is_count or any(name.startswith(f"{term}_") for term in terms)


def _without_doubles(losses: dict[str, Series]) -> dict[str, Series]:
    """The losses, the sum first; a name whose values another one has too is left out."""
    kept: dict[str, Series] = {}
    for name in sorted(losses, key=_rank):
        values = losses[name].values
        if not any(values == other.values for other in kept.values()):
            kept[name] = losses[name]
    return kept


def _rank(name: str) -> int:
    """The sum of all, then the terms of DISTILL, those of the detector, and last partial sums."""
    if name == "loss":
        return 0
    if name in PARTIAL_SUMS:
        return 3
    return 1 if name.startswith(DISTILLED) else 2
