"""Which rows of a study are held against each other: equal epochs, equal compute, one part left out.

All of it is found in the yaml. The parts of a row are its start from the teacher (INIT_STUDENT) and its terms. A row
that has all parts of another one but one, and is the same in everything else, says what that part adds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...config import to_plain
from ...distill.losses import DISTILL_LOSSES
from ...engine.logging import NOT_CONFIG
from .plan import StudyPlan
from .results import FINISHED, Outcome, mean_ap
from .spec import TEACHER, RowSpec
from .spread import Spread

EQUAL_EPOCHS, EQUAL_COMPUTE, LEFT_OUT = "equal epochs", "equal compute", "one part left out"
START = "INIT_STUDENT"


@dataclass(frozen=True)
class Comparison:
    """A row against another one: ``difference`` of the 3D mAP, run by run over the seeds that both have."""

    kind: str
    row: str
    other: str
    difference: Spread | None
    part: str = ""  # what the other row goes without


def compare_rows(plan: StudyPlan, outcomes: Mapping[str, Outcome], split: str) -> list[Comparison]:
    """Every pair of rows that the study is there for, in the order of the kinds."""
    rows = plan.spec.rows
    scores = {
        name: {
            each.run.seed: mean_ap(each.ap[split], "3d")
            for each in outcomes.values()
            if each.run.row.name == name and each.status == FINISHED
        }
        for name in rows
    }

    def pair(kind: str, row: str, other: str, part: str = "") -> Comparison:
        shared = [seed for seed in scores[row] if seed in scores[other]]
        return Comparison(
            kind,
            row,
            other,
            Spread.of([scores[row][seed] - scores[other][seed] for seed in shared]),
            part,
        )

    found = [
        pair(EQUAL_EPOCHS, row.name, row.baseline)
        for row in rows.values()
        if row.baseline not in (None, TEACHER, row.name)
        and row.epochs is not None
        and _frames_shown(plan, row) == _frames_shown(plan, rows[row.baseline])
    ]
    found += [
        pair(EQUAL_COMPUTE, name, row.name) for row in rows.values() for name in _matched(plan, row)
    ]
    found += [
        pair(LEFT_OUT, row.name, other.name, part)
        for row in rows.values()
        for other in rows.values()
        for part in [part_left_out(plan, row, other)]
        if part
    ]
    return found


def _frames_shown(plan: StudyPlan, row: RowSpec) -> int | None:
    """How many frames a row sees in its training: epochs of more frames, those without labels, are longer."""
    frames, shown = plan.spec.data.frames, str(plan.configs[row.name].DATA_CONFIG.INFO_PATH.train)
    if frames is None or row.epochs is None:
        return row.epochs
    return row.epochs * (frames["train"] + ("unlabelled" in shown) * frames["unlabelled"])


def _matched(plan: StudyPlan, row: RowSpec) -> list[str]:
    """The row whose compute this one got: of several that add up, the last stage."""
    named = [name for name in row.equal_compute_of if name != TEACHER]
    return [name for name in named if name not in {plan.spec.rows[each].teacher for each in named}]


def part_left_out(plan: StudyPlan, row: RowSpec, other: RowSpec) -> str | None:
    """The one part of at least two of ``row`` that ``other`` goes without, being its equal in all else; or None."""
    parts, fewer = (parts_of(plan.configs[each.name]) for each in (row, other))
    missing = [name for name in parts if name not in fewer]
    if (
        len(parts) < 2
        or len(missing) != 1
        or fewer != {name: parts[name] for name in parts if name != missing[0]}
    ):
        return None
    loss = (
        DISTILL_LOSSES.get(str(parts[missing[0]].get("NAME")))
        if isinstance(parts[missing[0]], Mapping)
        else None
    )
    own, its = (_rest(plan.configs[each.name]) for each in (row, other))
    if (
        loss is not None and loss.labels_frames and own[1] != its[1]
    ):  # frames that only the teacher labels
        return missing[0] if own[0] == its[0] and row.teacher == other.teacher else None
    return (
        missing[0]
        if (*own, row.epochs, row.teacher) == (*its, other.epochs, other.teacher)
        else None
    )


def parts_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Start and terms of a row's configuration, by name."""
    block = to_plain(config).get("DISTILL") or {}
    start = block.get(START)
    return {**({} if start in (None, "NONE") else {START: start}), **(block.get("TERMS") or {})}


def _rest(config: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """A configuration without its distillation, and the frames it trains on."""
    rest = {
        key: value for key, value in to_plain(config).items() if key not in ("DISTILL", *NOT_CONFIG)
    }
    data = dict(rest.get("DATA_CONFIG") or {})
    frames = data.pop("INFO_PATH", None)
    return {**rest, "DATA_CONFIG": data}, frames
