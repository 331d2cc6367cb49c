"""The DISTILL block: the teacher's yaml, range, classes and features against the student's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ....config import TeacherOptions, find_file, load_config, read_options
from ....datasets.spec import DataSpec
from ....distill.build import check_block
from ....errors import UserError
from ....texts import listed
from ....types import ConfigDict
from ..case import Case
from ..finding import Finding, Severity, numbers, percent
from .classes import nearest_label

CHECK = "teacher"
BLOCK = "DISTILL.TEACHER"
OUTSIDE_WARNING = 0.1
OUTSIDE_ERROR = 0.5


def check_teacher(case: Case) -> Iterator[Finding]:
    """Whether the teacher sees what the student is to learn."""
    block = case.cfg.get("DISTILL")
    if not block:
        return
    try:
        check_block(block)
        options = read_options(TeacherOptions, block.get("TEACHER") or {}, BLOCK)
        teacher = _config(case, options)
        spec = DataSpec.from_config(teacher["DATA_CONFIG"], teacher["CLASS_NAMES"])
    except UserError as error:
        yield Finding(CHECK, Severity.ERROR, BLOCK, str(error))
        return
    yield from _checkpoint(case, options)
    yield from _range(case, spec)
    yield from _classes(case, spec)
    yield from _features(case, spec)


def _config(case: Case, options: TeacherOptions) -> ConfigDict:
    """The yaml of the teacher, or the student's with the teacher's MODEL."""
    if options.cfg_file:
        return load_config(find_file(options.cfg_file, near=Path(str(case.cfg["CONFIG_FILE"]))))
    return {**case.cfg, "MODEL": options.model or case.model}


def _checkpoint(case: Case, options: TeacherOptions) -> Iterator[Finding]:
    if not options.ckpt:
        yield Finding(
            CHECK,
            Severity.NOTE,
            f"{BLOCK}.CKPT",
            "the yaml names no checkpoint of the teacher; the training needs --teacher_ckpt FILE",
        )
        return
    if Path(options.ckpt).is_file():
        return
    try:
        find_file(options.ckpt, near=Path(str(case.cfg["CONFIG_FILE"])))
    except UserError as error:
        yield Finding(
            CHECK,
            Severity.ERROR,
            f"{BLOCK}.CKPT",
            str(error),
            fix="train the teacher first, or name its checkpoint by --teacher_ckpt",
        )


def _range(case: Case, spec: DataSpec) -> Iterator[Finding]:
    own = np.array(case.data["POINT_CLOUD_RANGE"], dtype=float)
    other = np.array(spec.point_cloud_range, dtype=float)
    boxes = case.boxes()[:, :3]
    in_own = np.asarray(((boxes >= own[:3]) & (boxes <= own[3:])).all(axis=1))
    in_other = np.asarray(((boxes >= other[:3]) & (boxes <= other[3:])).all(axis=1))
    share = float((~in_other[in_own]).mean()) if in_own.any() else 0.0
    if share <= OUTSIDE_WARNING:
        return
    yield Finding(
        CHECK,
        Severity.ERROR if share > OUTSIDE_ERROR else Severity.WARNING,
        f"{BLOCK}; {case.key('POINT_CLOUD_RANGE')}",
        f"{percent(share)} of the objects in the student's range {numbers(own)} lie outside the "
        f"teacher's {numbers(other)}, where it teaches that there is nothing",
        fix="give both the same range, or take a teacher that was trained on this one",
    )


def _classes(case: Case, spec: DataSpec) -> Iterator[Finding]:
    missing = [name for name in case.class_names if name not in spec.class_names]
    if not missing:
        return
    meant = {name: nearest_label(name, Counter(spec.class_names), []) for name in missing}
    similar = [f"{name} (teacher: {other})" for name, other in meant.items() if other]
    none_left = len(missing) == len(case.class_names)
    severity = Severity.NOTE
    if similar or none_left:
        severity = Severity.ERROR if none_left else Severity.WARNING
    hint = f"; spelt differently: {listed(similar)}" if similar else ""
    yield Finding(
        CHECK,
        severity,
        f"{BLOCK}, CLASS_NAMES",
        f"the teacher knows {listed(spec.class_names)}, but not {listed(missing)}{hint}",
        fix="use the teacher's names for the classes it teaches",
    )


def _features(case: Case, spec: DataSpec) -> Iterator[Finding]:
    stored = case.spec.point_feature_encoder.src_feature_list
    missing = [n for n in spec.point_feature_encoder.used_feature_list if n not in stored]
    if missing:
        yield Finding(
            CHECK,
            Severity.ERROR,
            f"{BLOCK}; {case.key('POINT_FEATURE_ENCODING')}",
            f"the teacher needs the columns {listed(missing)}, which the points do not have: "
            f"{listed(stored, 8)}",
            fix="take a teacher that was trained on these columns",
        )
