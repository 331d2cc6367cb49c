"""Which rows of a study are compared: at equal epochs, at equal compute, or with one part left out.

All of it is found in the configurations, nothing is declared. The parts of a row are its
initialisation from the teacher (INIT_STUDENT) and its terms. When another row has all parts of this
one but one, and equals it in everything else, the difference is what that part adds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ....config import to_plain
from ....distill.batch_transforms import BATCH_TRANSFORMS
from ....engine.logging import NOT_CONFIG
from ....types import ConfigDict
from ..plan import StudyPlan
from ..spec import TEACHER, RowSpec
from ..survey import Outcome
from .paired import Scores, scores_of
from .spread import Spread

EQUAL_EPOCHS = "equal epochs"
EQUAL_COMPUTE = "equal compute"
LEFT_OUT = "one part left out"
INIT = "INIT_STUDENT"


@dataclass(frozen=True)
class Comparison:
    """A row against another one."""

    kind: str
    row: str
    other: str
    difference: Spread | None  # of the 3D mAP, seed by seed, over the seeds that both have
    part: str = ""  # the part that the other row lacks


def compare_rows(plan: StudyPlan, outcomes: Mapping[str, Outcome], split: str) -> list[Comparison]:
    """Every pair of rows to compare, ordered by kind."""
    rows = list(plan.spec.rows.values())
    scores = {row.name: scores_of(row, outcomes, split) for row in rows}
    comparisons = []

    def add(kind: str, row: str, other: str, part: str = "") -> None:
        difference = _difference(scores[row], scores[other])
        comparisons.append(Comparison(kind, row, other, difference, part))

    for row in rows:
        if row.baseline is not None and _is_equally_long(plan, row):
            add(EQUAL_EPOCHS, row.name, row.baseline)
    for row in rows:
        for name in _matched_rows(plan, row):
            add(EQUAL_COMPUTE, name, row.name)
    for row in rows:
        for other in rows:
            part = part_left_out(plan, row, other)
            if part is not None:
                add(LEFT_OUT, row.name, other.name, part)
    return comparisons


def _difference(scores: Scores, others: Scores) -> Spread | None:
    """Runs of the same seed see the same data in the same order, so they are paired."""
    return Spread.of([scores[seed] - others[seed] for seed in scores if seed in others])


def _is_equally_long(plan: StudyPlan, row: RowSpec) -> bool:
    """Whether a row trains on as many frames as its baseline, which is another row."""
    if row.baseline in (None, TEACHER, row.name) or row.epochs is None:
        return False
    baseline = plan.spec.rows[str(row.baseline)]
    return _frames_trained_on(plan, row) == _frames_trained_on(plan, baseline)


def _frames_trained_on(plan: StudyPlan, row: RowSpec) -> int | None:
    """Epochs times frames: an epoch that includes frames without labels is longer."""
    frames = plan.spec.data.frames
    if frames is None or row.epochs is None:
        return row.epochs
    per_epoch = frames["train"]
    if "unlabelled" in str(plan.configs[row.name].DATA_CONFIG.INFO_PATH.train):
        per_epoch += frames["unlabelled"]
    return row.epochs * per_epoch


def _matched_rows(plan: StudyPlan, row: RowSpec) -> list[str]:
    """The rows whose compute ``row`` was given. Of several stages, only the last one."""
    named = [name for name in row.equal_compute_of if name != TEACHER]
    earlier_stages = {plan.spec.rows[name].teacher for name in named}
    return [name for name in named if name not in earlier_stages]


def part_left_out(plan: StudyPlan, row: RowSpec, other: RowSpec) -> str | None:
    """The one part of ``row`` that ``other`` lacks, being equal in all else; None when not so.

    ``row`` must have two parts or more: with a single one, ``other`` is the plain baseline.
    """
    config = plan.configs[row.name]
    other_config = plan.configs[other.name]
    parts = parts_of(config)
    missing = [name for name in parts if name not in parts_of(other_config)]
    if len(parts) < 2 or len(missing) != 1:
        return None
    part = missing[0]
    remaining = {name: block for name, block in parts.items() if name != part}
    if parts_of(other_config) != remaining or row.teacher != other.teacher:
        return None
    rest = _without_distillation(config)
    other_rest = _without_distillation(other_config)
    frames = _train_infos(config)
    other_frames = _train_infos(other_config)
    if rest != other_rest:
        return None
    # A part that labels frames may bring frames of its own, and then other epochs.
    if _labels_frames(parts[part]) and frames != other_frames:
        return part
    return part if (frames, row.epochs) == (other_frames, other.epochs) else None


def parts_of(config: ConfigDict) -> dict[str, object]:
    """Initialisation and terms of a row's configuration, by name."""
    block = to_plain(config).get("DISTILL") or {}
    parts = dict(block.get("TERMS") or {})
    init = block.get(INIT)
    return parts if init in (None, "NONE") else {INIT: init, **parts}


def _labels_frames(block: object) -> bool:
    """Whether a part is a term that lets the teacher label frames without labels."""
    if not isinstance(block, Mapping):
        return False
    transform = BATCH_TRANSFORMS.get(str(block.get("NAME")))
    return transform is not None and transform.labels_frames


def _without_distillation(config: ConfigDict) -> dict[str, object]:
    """What else is in a configuration: no DISTILL block, no training frames."""
    plain = to_plain(config)
    rest = {key: value for key, value in plain.items() if key not in ("DISTILL", *NOT_CONFIG)}
    data = dict(rest.get("DATA_CONFIG") or {})
    data.pop("INFO_PATH", None)
    return {**rest, "DATA_CONFIG": data}


def _train_infos(config: ConfigDict) -> object:
    """The info files of a configuration: which frames it trains and evaluates on."""
    return (to_plain(config).get("DATA_CONFIG") or {}).get("INFO_PATH")
