"""Claim: nothing that is broken here costs more than the time since the last checkpoint.

    python -m benchmarks.faults                     # everything: half an hour of one core
    python -m benchmarks.faults --short             # each fault a few times: a minute
    python -m benchmarks.faults --only kills --kills 1 --seed 17

A distillation of seconds is killed, stopped, and put on broken disks; each time it is started again
and must end with the weights of an undisturbed run, to the last bit. Prints a table and ends with
exit code 1 when something was lost. ``--json`` and ``--page`` also write it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

# Before torch is imported: threads would change the last bits of sums, and make a fork unsafe.
os.environ["OMP_NUM_THREADS"] = "1"

from .damaged import DAMAGED, damage_trials  # noqa: E402
from .disks import disk_trials  # noqa: E402
from .fights import clock_trials, fight_trials  # noqa: E402
from .kills import Durations, kill_trials, measure, signal_trials  # noqa: E402
from .outcomes import LOST, Table, Trial, markdown, put_table, read_rows, write_json  # noqa: E402
from .ranks import rank_trials  # noqa: E402
from .small_training import SmallTraining  # noqa: E402

# Part -> how often each of its faults is tried; in all, or in the short form.
LONG = {
    "kills": 200,
    "signals": 60,
    "ranks": 12,
    "disks": 10,
    "fights": 10,
    "clock": 10,
    "fuzz": 10000,
}
SHORT = {"kills": 3, "signals": 3, "ranks": 0, "disks": 1, "fights": 1, "clock": 1, "fuzz": 0}
PARTS: dict[str, Callable[[SmallTraining, Durations, int, int], Iterator[Trial]]] = {
    "kills": kill_trials,
    "signals": signal_trials,
    "ranks": lambda training, durations, number, seed: rank_trials(training, number, seed),
    "disks": lambda training, durations, number, seed: disk_trials(training, number, seed),
    "fights": fight_trials,
    "clock": clock_trials,
    "fuzz": lambda training, durations, number, seed: damage_trials(number, seed),
}


def make_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--short", action="store_true", help="each fault a few times")
    parser.add_argument("--only", nargs="*", choices=list(PARTS), help="these parts alone")
    parser.add_argument("--seed", type=int, default=0, help="draws the moments")
    for part, number in LONG.items():
        help_text = f"how often each fault of '{part}' is tried (default: {number})"
        parser.add_argument(f"--{part}", type=int, metavar="N", help=help_text)
    parser.add_argument(
        "--after", type=Path, nargs="+", default=[], help="JSON files whose rows come first"
    )
    parser.add_argument("--json", type=Path, help="also write the counts here")
    parser.add_argument("--page", type=Path, help="put the table into this page, between its marks")
    return parser


def numbers_of(args: argparse.Namespace) -> dict[str, int]:
    """How often each part is tried."""
    numbers = {}
    for part, number in (SHORT if args.short else LONG).items():
        given = getattr(args, part)
        if args.only is None or part in args.only:
            numbers[part] = number if given is None else given
    return {part: number for part, number in numbers.items() if number > 0}


def all_trials(numbers: dict[str, int], seed: int, folder: Path) -> Iterator[Trial]:
    """Every fault, on a small training in ``folder``."""
    if not numbers:
        return
    if list(numbers) == ["fuzz"]:
        yield from damage_trials(numbers["fuzz"], seed)
        return
    training = SmallTraining(folder)
    with quiet():
        training.prepare()
    training.fresh_run("undisturbed")
    durations = measure(training)
    for part, number in numbers.items():
        yield from PARTS[part](training, durations, number, seed)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drop what commands print."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def main(arguments: Sequence[str] | None = None) -> None:
    """Try all faults and print the table."""
    args = make_parser().parse_args(arguments)
    numbers = numbers_of(args)
    begin = time.monotonic()
    table = Table()
    for file in args.after:
        table.join(read_rows(file))
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        for trial in all_trials(numbers, args.seed, Path(folder)):
            table.add(trial)
            if not trial.fault.startswith(DAMAGED) or trial.outcome == LOST:
                print(f"{time.monotonic() - begin:6.0f} s  {trial.text()}", flush=True)
            if args.json:
                write_json(args.json, table.rows)
    if args.json:
        write_json(args.json, table.rows)
    print(f"\n{markdown(table.rows)}")
    if args.page:
        put_table(args.page, table.rows)
    if any(row.lost for row in table.rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
