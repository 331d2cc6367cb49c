"""What the training of a row costs, in seconds that can be compared between rows."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from .plan import StudyPlan
from .survey import FINISHED, Outcome, seconds


def measured_costs(
    plan: StudyPlan, outcomes: Mapping[str, Outcome], on_gpu: bool
) -> dict[str, float]:
    """Mean measured seconds of each row's finished runs."""
    found: dict[str, list[float]] = {}
    for outcome in outcomes.values():
        if outcome.status == FINISHED and outcome.cost is not None:
            row_seconds = found.setdefault(outcome.run.row.name, [])
            row_seconds.append(seconds(outcome.cost, on_gpu))
    return {name: statistics.fmean(values) for name, values in found.items()}
