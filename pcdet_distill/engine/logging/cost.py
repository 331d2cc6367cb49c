"""What a training took: seconds on the clock and of the processor, as lines ``{"kind": "cost"}`` of metrics.jsonl.

The making of a student's first weights (INIT_STUDENT) counts. A line is written before each checkpoint, and a resumed
training goes on from the line of its iteration: work that an interruption threw away, and the time in between, do not
count.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Cost:
    """Seconds from the first iteration that was counted (0, unless a training began elsewhere) up to now."""

    wall_s: float = 0.0
    cpu_s: float = 0.0  # of this process and its data workers
    first_it: int = 0


class CostMeter:
    """Counts from its making on, on top of what was spent before."""

    def __init__(self, before: Cost | None = None) -> None:
        self.before = before or Cost()
        self._wall, self._cpu = time.perf_counter(), cpu_seconds()

    @classmethod
    def resumed(cls, metrics: Path, it: int) -> CostMeter:
        """Going on after iteration ``it`` of the training whose lines are in ``metrics``."""
        return cls(read_cost(metrics, it) or Cost(first_it=it))

    def read(self) -> Cost:
        """The cost up to now."""
        return Cost(
            self.before.wall_s + time.perf_counter() - self._wall,
            self.before.cpu_s + cpu_seconds() - self._cpu,
            self.before.first_it,
        )

    def values(self) -> dict[str, float]:
        """The cost up to now as a line of metrics.jsonl has it."""
        return asdict(self.read())


def read_cost(metrics: Path, it: int) -> Cost | None:
    """The cost of the first ``it`` iterations, from the last line about them; None: there is none."""
    if not metrics.is_file():
        return None
    found = None
    for line in metrics.read_text(errors="replace").splitlines():
        values = _cost_line(line)
        if values is not None and values["it"] == it:
            found = Cost(values["wall_s"], values["cpu_s"], values["first_it"])
    return found


def _cost_line(line: str) -> dict[str, Any] | None:
    """The values of a line about cost; a line cut off by a kill is none."""
    try:
        values = json.loads(line)
    except ValueError:
        return None
    return values if isinstance(values, dict) and values.get("kind") == "cost" else None


def cpu_seconds() -> float:
    """Processor seconds of this process, of the children it has waited for, and (on Linux) of those at work."""
    own = os.times()
    running = sum(
        _seconds_of(child.pid) for child in multiprocessing.active_children() if child.pid
    )
    return own.user + own.system + own.children_user + own.children_system + running


def _seconds_of(pid: int) -> float:
    """Processor seconds of another process, by /proc; 0 where that does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0.0
