"""The student without and with distillation, each beside the same teacher."""

from __future__ import annotations

import copy
import dataclasses
import logging
from pathlib import Path

import torch
from easydict import EasyDict
from torch import nn

from ...checkpoint import load_checkpoint, load_model_state
from ...config import to_plain
from ...datasets import DatasetTemplate
from ...distill import Distiller, DistillHead
from ...engine.build import build_trained_model
from ...errors import CheckpointError, ConfigError

STEPS = 20  # places of the training at which the weight of a term is looked up


@dataclasses.dataclass
class Side:
    """One of the two students that are compared.

    Attributes:
        name: what the pictures call it.
        distiller: this student, the teacher, and the terms.
        has_adapters: whether the adapters of the terms were trained with this student.
        is_trained: False for a student with the weights of a training's first step.
    """

    name: str
    distiller: Distiller
    has_adapters: bool
    is_trained: bool = True


@dataclasses.dataclass
class Sides:
    """Both students; ``notes`` say what could not be shown as usual."""

    before: Side
    after: Side
    notes: list[str] = dataclasses.field(default_factory=list)

    @property
    def both(self) -> list[Side]:
        """Without distillation, then with it."""
        return [self.before, self.after]


def without_stored_outputs(cfg: EasyDict) -> EasyDict:
    """The config with a teacher that runs on every frame: pictures need its features."""
    if not cfg.get("DISTILL"):
        raise ConfigError(
            f"--distill: {cfg.get('CONFIG_FILE')} has no DISTILL block, so it distils nothing; "
            "expected the yaml that the student was trained with, such as those in "
            "cfgs/kitti_distill"
        )
    changed = EasyDict(copy.deepcopy(dict(cfg)))
    teacher = changed.DISTILL.setdefault("TEACHER", EasyDict())
    for key in ("CACHE", "CACHE_DIR", "REUSE"):
        teacher.pop(key, None)
    return changed


def load_sides(
    cfg: EasyDict,
    dataset: DatasetTemplate,
    *,
    teacher_ckpt: str | None,
    ckpt: str,
    before: str | None,
    device: torch.device,
) -> Sides:
    """Both students with their weights, in eval mode.

    Args:
        cfg: of ``without_stored_outputs``.
        dataset: the frames that are shown.
        teacher_ckpt: takes the place of DISTILL.TEACHER.CKPT.
        ckpt: the distilled student.
        before: the student to compare with; None for one with untrained weights.
        device: both run there.
    """
    torch.manual_seed(0)
    logger = logging.getLogger(__name__)
    distiller = build_trained_model(cfg, dataset, teacher_ckpt=teacher_ckpt, logger=logger)
    assert isinstance(distiller, Distiller)
    take_strongest_weights(distiller.head)
    other = with_own_student(distiller)
    after = Side("with distillation", distiller, load_side(distiller, ckpt))
    if before is None:
        beginning = Side("before training", other, has_adapters=False, is_trained=False)
    else:
        name = "without distillation"
        beginning = Side(name, other, load_side(other, before))
    sides = Sides(beginning, after)
    sides.notes += _notes(sides, ckpt, before)
    for side in sides.both:
        side.distiller.to(device).eval()
    return sides


def with_own_student(distiller: Distiller) -> Distiller:
    """A distiller with the same teacher, and with copies of the student and of the terms."""
    student = copy.deepcopy(distiller.student)
    head = copy.deepcopy(distiller.head)
    return Distiller(student, distiller.teacher, head)


def load_side(distiller: Distiller, ckpt: str) -> bool:
    """Load a student; returns whether the file also has the adapters of these terms."""
    state = load_checkpoint(ckpt)
    load_model_state(distiller.student, state["model_state"], strict=True, where=str(ckpt))
    stored = state.get("distill_state")
    if not needs_adapters(distiller.head):
        return True
    if not stored:
        return False
    try:
        where = f"{ckpt} (adapters)"
        load_model_state(distiller.head, stored, strict=True, where=where)
    except CheckpointError:
        return False
    return True


def needs_adapters(head: nn.Module) -> bool:
    """Whether the terms have anything that training changes."""
    return len(head.state_dict()) > 0


def take_strongest_weights(head: DistillHead) -> None:
    """Show every term at the moment of the training at which it weighs most.

    A term whose WEIGHT fades or starts late would otherwise be switched off.
    """
    for _, term in head.named_terms():
        moments = [step / STEPS for step in range(STEPS + 1)]
        term.progress = max(moments, key=term.schedule.at)


def _notes(sides: Sides, ckpt: str, before: str | None) -> list[str]:
    """What differs from the usual page."""
    notes = []
    head = sides.after.distiller.head
    if not head.named_terms():
        notes.append(
            "DISTILL has no TERMS that compare features or predictions, so there are no nodes, "
            "neighbours or features to show; the changed boxes are below."
        )
    elif not sides.after.has_adapters:
        notes.append(
            f"{Path(ckpt).name} holds no adapters that fit these terms: a checkpoint of a plain "
            "training, a file for deployment, or another recipe. Nodes and weights come from the "
            "teacher and are shown as usual. Features are compared by a fitted linear map; the "
            "values of the losses, which need the adapters, are left out."
        )
    if before is None and sides.after.distiller.student_init is not None:
        notes.append(
            "INIT_STUDENT sets the weights that this training begins with. It is not applied to "
            "the student before training that is shown here; give a checkpoint by --before."
        )
    if before is None:
        notes.append(
            "Without --before, the student to compare with has the random weights that a training "
            "begins with. Its boxes mean nothing, so the teacher's boxes are compared with the "
            "student's."
        )
    return notes


def describe_terms(cfg: EasyDict, head: DistillHead) -> list[list[str]]:
    """For each term: name, method, what the student and the teacher give, the weight."""
    blocks = to_plain(cfg.DISTILL.get("TERMS") or {})
    rows = []
    for name, term in head.named_terms():
        method = str(blocks[name]["NAME"])
        rows.append([name, method, str(term.student), str(term.teacher), str(term.schedule)])
    for name, transform in head.named_transforms():
        rows.append([name, type(transform).__name__, "changes the labels", "its boxes", "–"])
    return rows
