"""The DISTILL block: one list of its keys for the reader, the check of typos and the docs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..types import ConfigDict
from .options import option


@dataclass(frozen=True)
class TeacherOptions:
    """DISTILL.TEACHER: which detector is the teacher, and how it is run."""

    cfg_file: str | None = option(
        None, values="a yaml file", help="the file that the teacher was trained with"
    )
    model: ConfigDict | None = option(
        None,
        values="a MODEL block",
        help="instead of CFG_FILE, for a teacher that differs from the student in MODEL only",
    )
    ckpt: str | None = option(
        None, values="a file", help="weights of the teacher; `--teacher_ckpt` replaces it"
    )
    mode: str = option(
        "eval",
        choices=("eval", "train"),
        help="BatchNorm of the teacher uses its running statistics (`eval`) or those of the batch "
        "(`train`); neither changes the teacher",
    )
    precision: str = option(
        "training",
        choices=("training", "float32", "float16", "bfloat16"),
        help="numbers that the teacher computes with; `training` is float32, or that of the mixed "
        "precision training",
    )
    reuse: int = option(
        1,
        at_least=1,
        help="consecutive epochs that show the same augmented frames; the teacher runs in the "
        "first one only, the others read its outputs from temporary files",
    )
    cache: str = option(
        "none",
        choices=("none", "predictions"),
        help="with `predictions` no teacher runs in the training: its boxes and scores are "
        "computed once for every frame, stored, and moved by each augmentation",
    )
    cache_dir: str | None = option(
        None,
        values="a folder",
        help="where CACHE stores them; by default a folder for this teacher in "
        "`DATA_PATH/teacher_cache`",
    )
    cache_thresh: float = option(
        0.05,
        above=0,
        at_most=1,
        help="CACHE stores anchors and cells whose best score exceeds it; others are background",
    )


@dataclass(frozen=True)
class DistillOptions:
    """DISTILL: teacher, losses and initialisation of the student."""

    teacher: TeacherOptions = option(TeacherOptions(), help="the trained detector to learn from")
    terms: Mapping[str, ConfigDict] = option(
        {}, values="blocks under any name", help="the losses, which are added up"
    )
    init_student: object = option(
        "NONE",
        values="a mode or a block",
        help="how the weights of the teacher initialise the student",
    )


@dataclass(frozen=True)
class TermOptions:
    """The keys of every entry of DISTILL.TERMS; the other keys of an entry belong to its loss."""

    name: str | None = option(
        None,
        values="a method",
        help="name of a method, or the import path of a class of your own",
    )
    student: str | None = option(
        None,
        values="a tap, or a head",
        help="a tap of the student, such as `backbone_2d.blocks.1`; for a loss that compares "
        "predictions the slot of its head, `dense_head`",
    )
    teacher: str | None = option(None, values="a tap, or a head", help="the same of the teacher")
    nodes: str | None = option(
        None,
        choices=("voxel", "bev", "sparse", "point", "roi"),
        help="kind of nodes that both taps give; if left out, it follows from the taps",
    )
    score_tap: str | None = option(
        None,
        values="a tap",
        help="with `SCORE: objectness`, the tap of the teacher's class scores; by default that of "
        "its first stage",
    )
    weight: object = option(1.0, values="a number from 0 up, or a block", help="factor of the loss")


@dataclass(frozen=True)
class WeightOptions:
    """WEIGHT of a term as a block: a factor that changes during the training."""

    start: float | None = option(None, at_least=0, help="factor at the start of the training")
    share: float | None = option(
        None,
        above=0,
        help="in place of START: the term's gradient is kept at this share of that of the "
        "detection loss",
    )
    end: float | None = option(
        None, at_least=0, help="factor, or share, at the end of the schedule"
    )
    schedule: str = option(
        "linear",
        choices=("constant", "linear", "cosine"),
        help="how the factor changes from START to END; `constant` keeps START",
    )
    until: float = option(
        1.0,
        above=0,
        at_most=1,
        help="share of the training after which the factor is END and stays there",
    )
    every: int = option(50, above=0, help="with SHARE: steps between two measurements")
    of: str = option(
        "features",
        choices=("features", "student"),
        help="with SHARE, the gradients that are measured: `features`, at the student's taps of "
        "the term; `student`, of all parameters of the student that the term reaches",
    )
    smoothing: float = option(
        0.5,
        at_least=0,
        at_most=0.99,
        help="with SHARE: how much of the old factor stays at a measurement",
    )
    limit: float = option(
        10.0,
        at_least=1,
        help="with SHARE: the factor stays within its first value divided and multiplied by this",
    )
