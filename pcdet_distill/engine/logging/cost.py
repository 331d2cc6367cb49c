"""What a training took: wall-clock seconds and processor seconds.

They are lines ``{"kind": "cost", ...}`` of metrics.jsonl, one before each checkpoint. The
initialisation of a student (INIT_STUDENT) counts, and so does computing a cache of its teacher. A
resumed training continues from the line of its iteration. So work that an interruption threw away
does not count, nor does the time in between.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cost:
    """Time spent on a training up to now.

    Attributes:
        wall_s: seconds on the clock.
        cpu_s: processor seconds of this process and its data workers.
        first_it: the iteration from which was counted: 0 unless the training began elsewhere.
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0
    first_it: int = 0

    def __add__(self, other: Cost) -> Cost:
        """Both together, counted from the iteration of this one."""
        return Cost(self.wall_s + other.wall_s, self.cpu_s + other.cpu_s, self.first_it)


class CostMeter:
    """Counts from its creation on.

    Args:
        before: cost to start from.
    """

    def __init__(self, before: Cost | None = None) -> None:
        self.before = before or Cost()
        self._wall_start = time.perf_counter()
        self._cpu_start = cpu_seconds()

    @classmethod
    def resumed(cls, metrics: Path, it: int) -> CostMeter:
        """A meter that continues after iteration ``it`` of the training recorded in ``metrics``."""
        return cls(read_cost(metrics, it) or Cost(first_it=it))

    def read(self) -> Cost:
        """The cost up to now."""
        return Cost(
            wall_s=self.before.wall_s + time.perf_counter() - self._wall_start,
            cpu_s=self.before.cpu_s + cpu_seconds() - self._cpu_start,
            first_it=self.before.first_it,
        )

    def values(self) -> dict[str, float]:
        """The cost up to now, as a line of metrics.jsonl holds it."""
        return asdict(self.read())


def read_cost(metrics: Path, it: int) -> Cost | None:
    """The cost of the first ``it`` iterations, from the last line about them; None without one."""
    if not metrics.is_file():
        return None
    cost = None
    for line in metrics.read_text(errors="replace").splitlines():
        values = _cost_values(line)
        if values is not None and values["it"] == it:
            cost = Cost(values["wall_s"], values["cpu_s"], int(values["first_it"]))
    return cost


def _cost_values(line: str) -> dict[str, float] | None:
    """The values of a line about cost, else None. A kill may have cut a line off."""
    try:
        values = json.loads(line)
    except ValueError:
        return None
    if isinstance(values, dict) and values.get("kind") == "cost":
        return values
    return None


def cpu_seconds() -> float:
    """Processor seconds of this process, its ended children and (on Linux) its running children."""
    # os.times() counts in steps of 10 ms. A short training may lie between two of them.
    seconds = time.process_time()
    times = os.times()
    seconds += times.children_user + times.children_system
    for child in multiprocessing.active_children():
        if child.pid:
            seconds += process_cpu_seconds(child.pid)
    return seconds


def process_cpu_seconds(pid: int) -> float:
    """Processor seconds of another process, from /proc; 0 on systems without it."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        # The name of the command comes first, in brackets, and may contain spaces. The 12th and
        # 13th field behind it are utime and stime in clock ticks.
        fields = stat.rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0.0
