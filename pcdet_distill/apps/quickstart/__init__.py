"""The first tour: simulate scenes, train a teacher and two students, compare them.

docs/quickstart.md explains it. ``plan.py`` has the sizes, files and steps, ``run.py`` runs the
steps, ``results.py`` measures, compares and draws, ``page.py`` writes report.html.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from ...errors import UserError
from ...texts import duration_in_words
from .plan import DATASETS, DEFAULT_DATASET, QuickstartPlan, make_steps
from .run import run_steps, shorten

__all__ = ["QuickstartPlan", "main", "make_steps", "run_steps"]


def main(root: Path, arguments: Sequence[str] | None = None, prog: str | None = None) -> None:
    """Run every step, print the table and draw pictures. ``root`` is the checkout.

    What an earlier run completed is kept.
    """
    from . import results
    from .page import write_quickstart_page

    options = parse_arguments(arguments, prog)
    make_plan = QuickstartPlan.small if options.fast else QuickstartPlan.full
    plan = make_plan(
        root,
        options.detector,
        device=options.device,
        side_by_side=options.side_by_side,
        dataset=options.dataset,
    )
    if options.publish:
        results.check_publishable(plan)
    start = time.monotonic()
    try:
        run_steps(make_steps(plan), root)
    except KeyboardInterrupt:
        raise UserError("interrupted; run the same command again to resume") from None
    print("\n== compare", flush=True)
    comparison = results.report(plan)
    pictures = results.draw(plan)
    page = write_quickstart_page(plan, comparison)
    print((plan.output / "report.txt").read_text())
    written = [plan.output / "report.md", *pictures, *([page] if page else [])]
    for path in written:
        print(f"   {shorten(path, root)}")
    print(f"\nall steps took {duration_in_words(time.monotonic() - start)} this time")
    print("to start again from nothing, delete these folders:")
    print(f"   {plan.data}  output/{plan.tag}  {plan.trainings}/*/{plan.tag}")
    if options.publish:
        results.publish(plan, comparison, pictures)


def parse_arguments(arguments: Sequence[str] | None, prog: str | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Simulate scenes, train a teacher and two students, compare them.",
    )
    parser.add_argument(
        "--dataset",
        default=DEFAULT_DATASET,
        help=f"whose files are simulated: {', '.join(DATASETS)} (default: %(default)s)",
    )
    parser.add_argument(
        "--detector", default=None, help=f"what is trained: {_detectors()} (default: the first)"
    )
    parser.add_argument(
        "--fast", action="store_true", help="smoke run of about two minutes: its AP means nothing"
    )
    parser.add_argument(
        "--device", default=None, help="cpu, cuda or cuda:N (default: cuda if there is one)"
    )
    parser.add_argument(
        "--side_by_side",
        action="store_true",
        help="train the two students at the same time, with one thread each",
    )
    parser.add_argument(
        "--publish",
        action="store_true",
        help="write the table and a picture into docs/ of this checkout (default detector only)",
    )
    return parser.parse_args(arguments)


def _detectors() -> str:
    """The detectors of each dataset, for the help."""
    return "; ".join(
        f"{', '.join(simulated.detectors)} on {name}" for name, simulated in DATASETS.items()
    )
