"""The DISTILL block: one list of its keys for the reader, the check of typos and the docs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..types import ConfigDict
from .options import option


@dataclass(frozen=True)
class TeacherOptions:
    """DISTILL.TEACHER: which detector is the teacher, and how it is run."""

    cfg_file: str | None = option(None, help="yaml file that the teacher was trained with")
    model: ConfigDict | None = option(
        None, help="the teacher's MODEL block, in place of CFG_FILE, when the rest is the student's"
    )
    ckpt: str | None = option(None, help="checkpoint of the teacher; `--teacher_ckpt` replaces it")
    mode: str = option(
        "eval",
        choices=("eval", "train"),
        help="`eval` normalises with the running statistics of BatchNorm, `train` with those of "
        "the batch; neither changes the teacher",
    )
    reuse: int = option(
        1,
        at_least=1,
        help="epochs in a row that show the same augmented frames; the teacher runs in the first "
        "of them only, its outputs are kept in memory for the others",
    )


@dataclass(frozen=True)
class DistillOptions:
    """DISTILL: teacher, losses and initialisation of the student."""

    teacher: TeacherOptions = option(TeacherOptions(), help="the trained detector to learn from")
    terms: Mapping[str, ConfigDict] = option(
        {}, help="distillation losses, each a block under a name of its own"
    )
    init_student: object = option(
        "NONE", help="how the teacher's weights initialise the student: a mode, or a block of keys"
    )
