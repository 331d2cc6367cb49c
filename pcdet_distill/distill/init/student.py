"""Initialises a student from its teacher: selects channels, copies or fits their weights."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from ...models import Detector3DTemplate, load_data_to_device
from ...models.eval_mode import evaluating
from ...types import BatchDict
from .channels import trace_channels
from .layers import find_prediction_layers
from .norms import measure_norms
from .options import InitOptions
from .plan import ChannelPlan
from .proposals import TeacherPredictions
from .reconstruct import reconstruct
from .scores import channel_score_matrices
from .selection import select_channels
from .topology import find_narrower_layers
from .weights import copy_weights

if TYPE_CHECKING:
    from ..teacher import Teacher


class StudentInit:
    """DISTILL.INIT_STUDENT, as a Distiller applies it before the first training step.

    Attributes:
        options: the block of the yaml file.
        frames: number of training frames that it needs.
    """

    def __init__(self, options: InitOptions) -> None:
        self.options = options
        self.frames = options.frames

    def __call__(
        self,
        student: nn.Module,
        teacher: Teacher,
        batches: Iterable[BatchDict],
        logger: logging.Logger | None,
    ) -> None:
        """Set the weights of ``student`` by ``batches``, as the data loader makes them."""
        device = next(student.parameters()).device
        loaded_batches = []
        for batch in batches:
            loaded = dict(batch)
            load_data_to_device(loaded, device)
            loaded_batches.append(loaded)
        # The yaml file's MODEL blocks build nothing else.
        teacher_model = cast(Detector3DTemplate, teacher.model)
        student_model = cast(Detector3DTemplate, student)
        init_student(teacher_model, student_model, loaded_batches, self.options, logger)


@torch.no_grad()
def init_student(
    teacher: Detector3DTemplate,
    student: Detector3DTemplate,
    batches: Sequence[BatchDict],
    options: InitOptions,
    logger: logging.Logger | None = None,
) -> None:
    """Set the weights of ``student`` from those of ``teacher``.

    Args:
        teacher: a trained detector.
        student: the same detector with fewer channels, on the same device.
        batches: augmented training frames, on that device.
        options: the options of INIT_STUDENT.
        logger: receives one line with what was done.
    """
    start_time = time.monotonic()
    narrower = find_narrower_layers(teacher, student)
    with evaluating(teacher), evaluating(student):
        plan, prediction_layers = plan_channels(teacher, student, narrower, batches[0])
        generator = torch.Generator().manual_seed(options.seed)
        _select_all_channels(teacher, plan, batches, options, generator)
        copy_weights(teacher, student, plan)
        predictions = TeacherPredictions(plan, prediction_layers)
        predictions.record(teacher, plan, batches)
        if options.mode == "SLICE":
            num_norms = measure_norms(student, plan, batches, predictions)
            summary = f"{num_norms} norms measured again"
        else:
            r_squared = reconstruct(
                teacher,
                student,
                plan,
                batches,
                predictions=predictions,
                samples=options.samples,
                generator=generator,
            )
            summary = f"{len(r_squared)} layers fitted, R squared {_median_and_range(r_squared)}"
    if logger is not None:
        logger.info(
            "student initialised from its teacher (%s, %s channels): %d of %d layers narrower, "
            "%s on %d frames, %.1f s",
            options.mode,
            options.select,
            len(narrower),
            sum(not layer.is_norm for layer in plan.student_layers.values()),
            summary,
            sum(int(batch["batch_size"]) for batch in batches),
            time.monotonic() - start_time,
        )


def _median_and_range(numbers: Sequence[float]) -> str:
    """For the log."""
    if not numbers:
        return "none"
    return f"median {statistics.median(numbers):.2f} ({min(numbers):.2f} to {max(numbers):.2f})"


def plan_channels(
    teacher: Detector3DTemplate,
    student: Detector3DTemplate,
    narrower: set[str],
    batch_dict: BatchDict,
) -> tuple[ChannelPlan, set[str]]:
    """How channels flow through the teacher, and the names of its prediction layers.

    Args:
        teacher: the teacher, in eval mode.
        student: the student.
        narrower: names of the layers with fewer channels in the student.
        batch_dict: a batch on their device.
    """
    prediction_layers = find_prediction_layers(teacher, narrower)
    flows = trace_channels(teacher, prediction_layers, batch_dict) if narrower else []
    return ChannelPlan(flows, narrower, teacher, student), prediction_layers


def _select_all_channels(
    teacher: Detector3DTemplate,
    plan: ChannelPlan,
    batches: Sequence[BatchDict],
    options: InitOptions,
    generator: torch.Generator,
) -> None:
    """Select the channels to keep of every group, and enter them in ``plan``."""
    if options.select == "random":
        # Scores are not used; only the number of channels counts.
        matrices = {group: torch.eye(plan.flows[group].layer.out_channels) for group in plan.groups}
    else:
        matrices = channel_score_matrices(teacher, plan, batches, options.samples, generator)
    for group, matrix in matrices.items():
        channels = select_channels(matrix, plan.num_kept(group), options.select, generator)
        plan.keep(group, channels)
    plan.find_exact_layers()
