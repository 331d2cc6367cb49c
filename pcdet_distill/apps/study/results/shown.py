"""What a study shows: every row against the rows it is compared with, and whether that counts.

A gain counts as shown when all of this holds:

1. five seeds or more, paired;
2. the mean difference is above two standard errors;
3. it has the same sign on val and on holdout;
4. the row costs at most 3 % more than the other one, or both are at saturation: double the epochs
   change each of them by less than the standard error of that change;
5. the teacher of a distilled row is above the plain student trained three times as long.

The last one keeps out teachers from which there is nothing to learn: more training of the plain
student would give more. A row of double or triple epochs is found in the study by its
configuration; nothing is declared but the row to compare with (AGAINST).
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..plan import StudyPlan
from ..spec import RowSpec
from ..survey import Outcome
from .paired import Paired, scores_of

SEEDS_NEEDED = 5
STANDARD_ERRORS = 2.0
COST_TOLERANCE = 0.03
TEACHER_FACTOR = 3  # epochs of the plain student that a teacher must be above
SIGN_SPLITS = ("val", "holdout")
SHOWN = "shown"


@dataclass(frozen=True)
class Shown:
    """One row against another, and what keeps the difference from being shown."""

    row: str
    other: str
    differences: Mapping[str, Paired]  # by split, in the order of the yaml
    cost_ratio: float | None  # cost of the row over that of the other; None: not measured
    reasons: Sequence[str]  # why it is not shown; empty when it is

    @property
    def is_shown(self) -> bool:
        """Whether the row's gain counts."""
        return not self.reasons

    @property
    def verdict(self) -> str:
        """``shown``, or ``not shown: `` and why."""
        return SHOWN if self.is_shown else f"not {SHOWN}: {'; '.join(self.reasons)}"


@dataclass(frozen=True)
class Evidence:
    """What a verdict is made from: the study, its finished runs and the cost of its rows.

    Attributes:
        costs: seconds of training by row; rows that were not measured are missing.
    """

    plan: StudyPlan
    outcomes: Mapping[str, Outcome]
    costs: Mapping[str, float]

    @property
    def split(self) -> str:
        """The split that decides: holdout, or the last one of a study without it."""
        splits = self.plan.spec.evaluate
        return "holdout" if "holdout" in splits else splits[-1]

    def difference(self, row: RowSpec, other: RowSpec, split: str) -> Paired | None:
        """``row`` minus ``other`` in 3D mAP, seed by seed."""
        scores = scores_of(row, self.outcomes, split)
        return Paired.of(scores, scores_of(other, self.outcomes, split))

    def mean(self, row: RowSpec) -> float | None:
        """Mean 3D mAP of a row on the deciding split; None without a finished run."""
        scores = scores_of(row, self.outcomes, self.split)
        return statistics.fmean(scores.values()) if scores else None


def what_is_shown(evidence: Evidence) -> list[Shown]:
    """Every row against each row of its AGAINST, in the order of the yaml.

    Pairs without a common seed are left out.
    """
    found = []
    for row in evidence.plan.spec.rows.values():
        for name in row.against:
            shown = _compare(evidence, row, evidence.plan.spec.rows[name])
            if shown is not None:
                found.append(shown)
    return found


def _compare(evidence: Evidence, row: RowSpec, other: RowSpec) -> Shown | None:
    """The verdict on one pair; None when no seed has finished in both."""
    differences = {}
    for split in evidence.plan.spec.evaluate:
        difference = evidence.difference(row, other, split)
        if difference is None:
            return None
        differences[split] = difference
    deciding = differences[evidence.split]
    reasons = [
        seeds_reason(deciding),
        size_reason(deciding),
        sign_reason(differences),
        cost_reason(evidence, row, other),
        teacher_reason(evidence, row),
    ]
    ratio = cost_ratio(evidence, row, other)
    return Shown(row.name, other.name, differences, ratio, [each for each in reasons if each])


def seeds_reason(difference: Paired) -> str:
    """Condition 1: enough seeds. Empty when it holds."""
    if difference.seeds >= SEEDS_NEEDED:
        return ""
    plural = "" if difference.seeds == 1 else "s"
    return f"{difference.seeds} seed{plural}, {SEEDS_NEEDED} needed"


def size_reason(difference: Paired) -> str:
    """Condition 2: a gain above two standard errors. Empty when it holds."""
    error = difference.standard_error
    if difference.mean <= 0:
        return "no gain"
    if error is None:
        return "no standard error"
    needed = STANDARD_ERRORS * error
    if difference.mean > needed:
        return ""
    return f"{difference.mean:+.2f} is within {STANDARD_ERRORS:g} standard errors ({needed:.2f})"


def sign_reason(differences: Mapping[str, Paired]) -> str:
    """Condition 3: the same sign on val and holdout. Empty when it holds."""
    missing = [split for split in SIGN_SPLITS if split not in differences]
    if missing:
        return f"{' and '.join(missing)} not evaluated"
    val, holdout = (differences[split].mean for split in SIGN_SPLITS)
    if val * holdout > 0 or holdout <= 0:  # without a gain on holdout, condition 2 fails anyway
        return ""
    return f"other sign on val ({val:+.1f}) than on holdout ({holdout:+.1f})"


def cost_reason(evidence: Evidence, row: RowSpec, other: RowSpec) -> str:
    """Condition 4: equal cost, or both at saturation. Empty when it holds."""
    ratio = cost_ratio(evidence, row, other)
    if ratio is not None and ratio <= 1 + COST_TOLERANCE:
        return ""
    unsaturated = [saturation_reason(evidence, each) for each in (row, other)]
    if not any(unsaturated):
        return ""
    cost = "cost not measured" if ratio is None else f"costs {100 * (ratio - 1):.0f} % more"
    return f"{cost}, and {' and '.join(reason for reason in unsaturated if reason)}"


def cost_ratio(evidence: Evidence, row: RowSpec, other: RowSpec) -> float | None:
    """The row's cost over the other's; None where one is not known."""
    cost = evidence.costs.get(row.name)
    other_cost = evidence.costs.get(other.name)
    if cost is None or not other_cost:
        return None
    return cost / other_cost


def saturation_reason(evidence: Evidence, row: RowSpec) -> str:
    """Why a row is not at saturation; empty when double the epochs do not change it."""
    double = longer_row(evidence.plan, row, factor=2, exactly=True)
    if double is None:
        return f"{row.name} has no row of double epochs"
    change = evidence.difference(double, row, evidence.split)
    error = None if change is None else change.standard_error
    if change is None or error is None:
        return f"{double.name} shares fewer than 2 seeds with {row.name}"
    if abs(change.mean) < error:
        return ""
    return f"{row.name} changes by {change.text()} with double epochs"


def teacher_reason(evidence: Evidence, row: RowSpec) -> str:
    """Condition 5: a teacher above the plain student of triple epochs. Empty when it holds."""
    plan = evidence.plan
    if not plan.distils(row):
        return ""
    if row.baseline is None:
        return "no BASELINE, so no plain student to hold the teacher against"
    plain = plan.spec.row(row.baseline)
    triple = longer_row(plan, plain, factor=TEACHER_FACTOR)
    if triple is None:
        return f"no row trains {plain.name} {TEACHER_FACTOR} times as long"
    return _not_above(evidence, plan.spec.row(row.teacher), triple)


def _not_above(evidence: Evidence, teacher: RowSpec, triple: RowSpec) -> str:
    """Why the teacher is not known to be above a plain student; empty when it is."""
    score = evidence.mean(teacher)
    plain_score = evidence.mean(triple)
    if score is None or plain_score is None:
        missing = teacher.name if score is None else triple.name
        return f"{missing} has no result yet"
    if score > plain_score:
        return ""
    return f"{teacher.name} ({score:.1f}) is not above {triple.name} ({plain_score:.1f})"


def longer_row(
    plan: StudyPlan, row: RowSpec, *, factor: int, exactly: bool = False
) -> RowSpec | None:
    """The row that equals ``row`` in all but its epochs, which are ``factor`` times as many.

    Args:
        exactly: more than ``factor`` times is not accepted. Otherwise the shortest that is at
            least as long is taken.
    """
    epochs = plan.epochs(row)
    if epochs is None:
        return None
    found: list[tuple[int, str]] = []
    for other in plan.spec.rows.values():
        other_epochs = plan.epochs(other)
        if other_epochs is None or not plan.same_training(row, other):
            continue
        is_long_enough = other_epochs >= factor * epochs
        if other_epochs == factor * epochs or (is_long_enough and not exactly):
            found.append((other_epochs, other.name))
    if not found:
        return None
    _, name = min(found)
    return plan.spec.rows[name]


def warnings(evidence: Evidence) -> list[str]:
    """A sentence for each teacher that is not above its plain student at triple epochs."""
    sentences: dict[str, None] = {}  # an ordered set
    for row in evidence.plan.spec.rows.values():
        reason = teacher_reason(evidence, row)
        if reason:
            sentences[f"warning: {reason}; no gain from this teacher counts as shown"] = None
    return list(sentences)
