"""Epochs for the rows of EQUAL_COMPUTE_OF: as many as cost what the named rows cost.

Rounded up, so that a row hardly ever gets less than the rows it is compared with.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..plan import StudyPlan
from ..records import EqualCompute
from ..spec import RowSpec
from ..survey import ENDED, FINISHED, Outcome, seconds
from .costs import StepTimes

# A row gets a further epoch only where more than this share of an epoch is missing.
ROUNDED_DOWN = 0.1
# The same for counted costs, as a share of the whole: half of what counts as equal (shown.py).
SHORTAGE = 0.015


def choose_equal_epochs(
    plan: StudyPlan, row: RowSpec, outcomes: Mapping[str, Outcome], on_gpu: bool
) -> EqualCompute | None:
    """Epochs at which ``row`` costs the measured seconds of the rows of EQUAL_COMPUTE_OF.

    None: not all needed runs have been measured yet.
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


def choose_by_steps(plan: StudyPlan, row: RowSpec, step_times: StepTimes) -> EqualCompute | None:
    """Epochs at which ``row`` costs the counted seconds of the rows of EQUAL_COMPUTE_OF.

    None while a cost is not known.
    """
    like = plan.spec.row(str(row.like))
    epoch_s = step_times.epoch_s(like)
    once_s = step_times.once_s(like)
    costs = [step_times.counted(plan.spec.row(name)) for name in row.equal_compute_of]
    if epoch_s is None or once_s is None or None in costs:
        return None
    target_s = sum(cost for cost in costs if cost is not None)
    enough_s = target_s * (1 - SHORTAGE) - once_s
    return {
        "epochs": max(1, math.ceil(enough_s / epoch_s)),
        "target_s": round(target_s, 1),
        "epoch_s": round(epoch_s, 2),
        "unit": "counted",
    }


def _measured_runs(plan: StudyPlan, name: str, outcomes: Mapping[str, Outcome]) -> list[Outcome]:
    """The finished runs of a row with a measured cost; none while one of them is still to come."""
    known = [outcomes[run.name] for run in plan.runs_of(name) if run.name in outcomes]
    if any(outcome.status not in ENDED for outcome in known):
        return []
    return [each for each in known if each.status == FINISHED and each.cost is not None]
