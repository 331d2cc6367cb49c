"""Epochs for the rows of EQUAL_COMPUTE_OF: as many as cost what the named rows cost."""

from __future__ import annotations

import math
from collections.abc import Mapping

from .plan import StudyPlan
from .records import EqualCompute
from .spec import RowSpec
from .survey import ENDED, FINISHED, Outcome, seconds

# A row gets a further epoch only where more than this share of an epoch is missing.
ROUNDED_DOWN = 0.1


def choose_equal_epochs(
    plan: StudyPlan, row: RowSpec, outcomes: Mapping[str, Outcome], on_gpu: bool
) -> EqualCompute | None:
    """Epochs at which ``row`` costs what the rows of EQUAL_COMPUTE_OF cost on average.

    Rounded up, so that the row never gets less than the rows it is compared with. None: not all
    needed runs have been measured yet.
    """
    named = [str(row.like), *row.equal_compute_of]
    costs: dict[str, list[float]] = {}
    epochs: dict[str, int] = {}
    for name in named:
        runs = _measured_runs(plan, name, outcomes)
        if not runs:
            return None
        costs[name] = [seconds(run.cost, on_gpu) for run in runs if run.cost is not None]
        epochs[name] = sum(run.run.epochs or 0 for run in runs)
    epoch_s = sum(costs[str(row.like)]) / epochs[str(row.like)]
    target_s = sum(sum(costs[name]) / len(costs[name]) for name in row.equal_compute_of)
    return {
        "epochs": max(1, math.ceil(target_s / epoch_s - ROUNDED_DOWN)),
        "target_s": round(target_s, 1),
        "epoch_s": round(epoch_s, 2),
        "unit": "wall" if on_gpu else "cpu",
    }


def _measured_runs(plan: StudyPlan, name: str, outcomes: Mapping[str, Outcome]) -> list[Outcome]:
    """The finished runs of a row with a measured cost; none while one of them is still to come."""
    known = [outcomes[run.name] for run in plan.runs_of(name) if run.name in outcomes]
    if any(outcome.status not in ENDED for outcome in known):
        return []
    return [each for each in known if each.status == FINISHED and each.cost is not None]
