"""Start the student from its teacher: structured pruning, which training then repairs and distillation builds on.

The student must be the teacher with fewer channels. Layer by layer it gets the teacher's most useful ones (SLICE), and
on request new weights for them that make up for the others as well as a linear layer can (RECONSTRUCT).
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ...models import load_data_to_device
from .calibration import gather_evidence
from .channels import trace_channels
from .layers import in_eval, predictions_of
from .options import InitOptions
from .plan import Plan
from .reconstruct import reconstruct
from .selection import select
from .topology import narrower_layers
from .weights import Proposals, copy_weights, measure_statistics

__all__ = ["InitOptions", "StudentInit", "init_student"]


class StudentInit:
    """The ``start`` of a Distiller: what INIT_STUDENT asks for.

    Attributes:
        frames: training frames that are wanted.
    """

    def __init__(self, options: InitOptions) -> None:
        self.options = options
        self.frames = options.frames

    def __call__(
        self,
        student: nn.Module,
        teacher: Any,
        batches: Iterable[dict[str, Any]],
        logger: logging.Logger | None,
    ) -> None:
        """Give ``student`` its first weights from ``teacher`` (a Teacher), by batches as the loader makes them."""
        device = next(student.parameters()).device
        loaded = [dict(batch) for batch in batches]
        for batch in loaded:
            load_data_to_device(batch, device)
        init_student(teacher.model, student, loaded, self.options, logger)


@torch.no_grad()
def init_student(
    teacher: nn.Module,
    student: nn.Module,
    batches: Sequence[Mapping[str, Any]],
    options: InitOptions,
    logger: logging.Logger | None = None,
) -> None:
    """Give ``student`` the teacher's weights, as ``options`` say.

    Args:
        teacher: a trained detector.
        student: the same detector with fewer channels, on the same device.
        batches: of augmented training frames, on that device.
        options: INIT_STUDENT.
        logger: told in a few lines what was done.
    """
    started = time.monotonic()
    narrower = narrower_layers(teacher, student)
    with in_eval(teacher), in_eval(student):
        plan, predictions = _make_plan(teacher, student, narrower, batches[0])
        generator = torch.Generator().manual_seed(options.seed)
        _choose(teacher, plan, batches, options, generator)
        copy_weights(teacher, student, plan)
        proposals = Proposals(plan, predictions)
        proposals.record(teacher, plan, batches)
        if options.mode == "SLICE":
            measured = measure_statistics(student, plan, batches, proposals)
            done = f"{measured} norms measured anew"
        else:
            explained = reconstruct(
                teacher, student, plan, batches, proposals, options.samples, generator
            )
            done = f"{len(explained)} layers fitted, R squared {_spread(explained)}"
    if logger is not None:
        frames = sum(int(batch["batch_size"]) for batch in batches)
        layers = sum(not layer.is_norm for layer in plan.student_layers.values())
        logger.info(
            "student initialised from its teacher (%s, %s channels): %d of %d layers narrower, %s on %d frames, "
            "%.1f s",
            options.mode,
            options.select,
            len(narrower),
            layers,
            done,
            frames,
            time.monotonic() - started,
        )


def _spread(numbers: Sequence[float]) -> str:
    """Median and range, for the log."""
    if not numbers:
        return "none"
    return f"median {statistics.median(numbers):.2f} ({min(numbers):.2f} to {max(numbers):.2f})"


def _make_plan(
    teacher: nn.Module, student: nn.Module, narrower: set[str], batch_dict: Mapping[str, Any]
) -> tuple[Plan, set[str]]:
    """How channels flow through the teacher, and the names of the layers that predict."""
    predictions = predictions_of(teacher, narrower)
    flows = trace_channels(teacher, predictions, batch_dict) if narrower else []
    return Plan(flows, narrower, teacher, student), predictions


def _choose(
    teacher: nn.Module,
    plan: Plan,
    batches: Sequence[Mapping[str, Any]],
    options: InitOptions,
    generator: torch.Generator,
) -> None:
    """Decide which channels are kept."""
    if options.select == "random":
        matrices = {group: torch.eye(plan.flows[group].layer.outputs) for group in plan.groups}
    else:
        matrices = gather_evidence(teacher, plan, batches, options.samples, generator)
    for group, matrix in matrices.items():
        plan.keep(group, select(matrix, plan.num_kept(group), options.select, generator))
    plan.settle()
