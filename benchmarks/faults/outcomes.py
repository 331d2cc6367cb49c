"""What came of each fault, and the table of all of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

# The end is that of an undisturbed run, to the last bit; nobody had to do anything but restart.
HELD = "held"
# The run ended with one sentence and its exit code, and a restart came to the undisturbed end.
SAID = "said"
# Anything else: other weights, a traceback, a hang, a damaged file.
LOST = "lost"
OUTCOMES = (HELD, SAID, LOST)
TITLES = ("broken on purpose", "times", "unnoticed", "one sentence, then whole", "lost", "example")
EXAMPLE_CHARACTERS = 150


@dataclass(frozen=True)
class Trial:
    """One fault.

    Attributes:
        fault: what was broken, as the table names it.
        outcome: HELD, SAID or LOST.
        said: the sentence of the run, or what was lost.
        seed: draws the same moment again, with ``--only PART --seed SEED``.
    """

    fault: str
    outcome: str
    said: str = ""
    seed: int = 0

    def text(self) -> str:
        """A line that says all of it."""
        said = f": {self.said}" if self.said else ""
        return f"seed {self.seed}  {self.fault}: {self.outcome}{said}"


@dataclass
class Row:
    """All trials of one fault."""

    fault: str
    held: int = 0
    said: int = 0
    lost: int = 0
    example: str = ""
    losses: list[str] = field(default_factory=list)

    @property
    def times(self) -> int:
        """How often this was broken."""
        return self.held + self.said + self.lost

    def add(self, trial: Trial) -> None:
        """Count a trial. What was lost is the example, before any sentence."""
        setattr(self, trial.outcome, getattr(self, trial.outcome) + 1)
        if trial.outcome == LOST:
            self.losses.append(f"seed {trial.seed}: {trial.said}")
            self.example = trial.said
        elif trial.outcome == SAID and not self.example:
            self.example = trial.said


class Table:
    """One row for each fault, in the order of their first trials."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}

    @property
    def rows(self) -> list[Row]:
        """All rows."""
        return list(self._rows.values())

    def add(self, trial: Trial) -> None:
        """Count a trial."""
        self._rows.setdefault(trial.fault, Row(trial.fault)).add(trial)

    def join(self, rows: Sequence[Row]) -> None:
        """Add the counts of another run."""
        for row in rows:
            mine = self._rows.setdefault(row.fault, Row(row.fault))
            mine.held += row.held
            mine.said += row.said
            mine.lost += row.lost
            mine.losses += row.losses
            if row.lost or not mine.example:
                mine.example = row.example


def rows_of(trials: Sequence[Trial]) -> list[Row]:
    """The rows of some trials."""
    table = Table()
    for trial in trials:
        table.add(trial)
    return table.rows


def markdown(rows: Sequence[Row]) -> str:
    """The table of docs/reliability.md."""
    lines = ["| " + " | ".join(TITLES) + " |", "|---|---:|---:|---:|---:|---|"]
    for row in rows:
        numbers = (row.times, row.held, row.said, row.lost)
        cells = [row.fault, *(str(number) for number in numbers), _cell(row.example)]
        lines.append("| " + " | ".join(cells) + " |")
    total = [sum(column) for column in zip(*((r.times, r.held, r.said, r.lost) for r in rows))]
    lines.append("| all | " + " | ".join(str(number) for number in total) + " | |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """Text that fits in a table: one line, no bars, not too long."""
    text = " ".join(text.replace("|", "/").split())
    if len(text) > EXAMPLE_CHARACTERS:
        text = text[: EXAMPLE_CHARACTERS - 4] + " ..."
    return f"`{text}`" if text else ""


def write_json(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows for ``read_rows``."""
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


def read_rows(path: Path) -> list[Row]:
    """The rows of a file of ``write_json``."""
    return [Row(**row) for row in json.loads(path.read_text())]


BEGIN = "<!-- table of faults: written by python -m benchmarks.faults -->"
END = "<!-- end of the table -->"


def put_table(page: Path, rows: Sequence[Row]) -> None:
    """Replace the table between the two marks of a page."""
    before, rest = page.read_text().split(BEGIN)
    _, after = rest.split(END)
    page.write_text(f"{before}{BEGIN}\n\n{markdown(rows)}\n{END}{after}")
