"""RECONSTRUCT: fits the student's layers to the outputs of the teacher's.

The layers are fitted from the first to the last, each by ridge regression. Its inputs are those of
the student's layer, whose earlier layers are fitted already. Its targets are the teacher's outputs
in the kept channels, before batch norm. So the kept channels compensate for the dropped ones. A
constant that is left goes into the bias, or into the running mean of the norm behind.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import suppress
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from ...errors import DataError
from ...models import Detector3DTemplate
from ...types import BatchDict
from .calibration import draw_rows, record_layers, rows_per_batch
from .layers import AllRead, Features, Layer, feature_tensor, layer_hooks, run_detector
from .options import WHERE
from .patches import place_grid, places_of_rows, read_patches, read_targets, weight_from_map
from .plan import ChannelPlan
from .proposals import TeacherPredictions

RIDGE = 1e-3  # penalty on squared weights, relative to the mean squared length of an input column


@dataclasses.dataclass(frozen=True)
class Target:
    """What one run of a student's layer is fitted to.

    Attributes:
        num_places: number of places of the whole run, to check that teacher and student have the
            same.
        places: the sampled places.
        outputs: (S, outputs) of the teacher there, kept channels only.
    """

    num_places: int
    places: Tensor
    outputs: Tensor


Targets: TypeAlias = dict[str, list[Target]]  # of one batch, by layer, run by run


@dataclasses.dataclass(frozen=True)
class _FitData:
    """What all fits share."""

    student: Detector3DTemplate
    plan: ChannelPlan
    batches: Sequence[BatchDict]
    targets: list[Targets]  # by batch
    predictions: TeacherPredictions


@torch.no_grad()
def reconstruct(
    teacher: Detector3DTemplate,
    student: Detector3DTemplate,
    plan: ChannelPlan,
    batches: Sequence[BatchDict],
    *,
    predictions: TeacherPredictions,
    samples: int,
    generator: torch.Generator,
) -> list[float]:
    """Fit the student's layers in running order; returns R squared of each fit.

    Args:
        teacher: the teacher.
        student: the student, with the teacher's weights of the kept channels.
        plan: the kept channels.
        batches: calibration frames.
        predictions: the teacher's, for the student's second stage.
        samples: number of places that a layer is fitted at, over all batches.
        generator: draws them.
    """
    names = [
        name
        for name, flow in plan.flows.items()
        if not flow.layer.is_norm and not plan.is_exact(name)
    ]
    count = rows_per_batch(samples, batches)
    targets = [
        _sample_targets(teacher, plan, batch, names, count, generator=generator)
        for batch in batches
    ]
    data = _FitData(student, plan, batches, targets, predictions)
    return [_fit_layer(data, name) for name in names]


def _sample_targets(
    teacher: Detector3DTemplate,
    plan: ChannelPlan,
    batch: BatchDict,
    names: Sequence[str],
    count: int,
    *,
    generator: torch.Generator,
) -> Targets:
    """The targets of the layers ``names`` in a batch, at ``count`` places each."""
    targets: Targets = {}
    runs, sample_weights = record_layers(teacher, plan, batch)
    for run in runs:
        name = run.layer.name
        if name not in names:
            continue
        grid = place_grid(run.layer, run.input, run.output)
        rows = draw_rows(sample_weights.of_rows(run.layer, grid), count, generator)
        channels = plan.kept_outputs(name).to(rows.device)
        outputs = read_targets(run.layer, run.output, rows, channels)
        target = Target(len(feature_tensor(grid)), places_of_rows(grid, rows), outputs)
        targets.setdefault(name, []).append(target)
    return targets


def _fit_layer(data: _FitData, name: str) -> float:
    """Fit one layer; returns R squared."""
    layer = data.plan.student_layers[name]
    patches = []
    outputs = []
    for batch_number in range(len(data.batches)):
        targets = data.targets[batch_number].get(name, [])
        for target, patch in zip(targets, _student_patches(data, layer, batch_number)):
            patches.append(patch)
            outputs.append(target.outputs)
    if not patches:
        raise DataError(
            f"{WHERE}: {name} gets no input on the calibration frames, so it cannot be fitted; "
            "use more FRAMES, or SLICE"
        )
    norm = norm_behind(data.plan, name)
    bias = layer.module.bias
    inputs = torch.cat(patches).double()
    wanted = torch.cat(outputs).double()
    fit = ridge_regression(inputs, wanted, with_constant=bias is not None or norm is not None)
    layer.module.weight.copy_(weight_from_map(layer, fit.linear_map))
    # A transposed convolution has a constant for each cell of its block, but one bias.
    constant = fit.constant.reshape(layer.out_channels, -1).mean(dim=1)
    if bias is not None:
        bias.copy_(constant)
    elif norm is not None:
        assert norm.running_mean is not None
        norm.running_mean.sub_(constant.to(norm.running_mean))
    return fit.r_squared


def norm_behind(plan: ChannelPlan, name: str) -> _BatchNorm | None:
    """The student's batch norm that reads the whole output of a layer and nothing else.

    None when there is no such norm. None also when the norm reads empty rows: those come from
    padding, not from the layer, and a constant in the running mean would shift them too.
    """
    for other, flow in plan.flows.items():
        if not flow.layer.is_norm or not flow.no_empty_rows:
            continue
        if all(sources == ((name, column),) for column, sources in enumerate(flow.sources)):
            return plan.student_layers[other].module
    return None


def _student_patches(data: _FitData, layer: Layer, batch_number: int) -> list[Tensor]:
    """The patches (S, D) of the student's layer at the places of its targets, run by run."""
    targets = data.targets[batch_number].get(layer.name, [])
    patches: list[Tensor] = []

    def read(_: Layer, inputs: tuple[Features, ...], output: Features) -> None:
        target = targets[len(patches)]
        if len(feature_tensor(place_grid(layer, inputs[0], output))) != target.num_places:
            raise DataError(
                f"{WHERE}: {layer.name} has other rows in the student than in the teacher, so its "
                "output cannot be compared row by row; use SLICE"
            )
        output_shape = feature_tensor(output).shape
        patches.append(read_patches(layer, inputs[0], output_shape, target.places))
        if len(patches) == len(targets):
            raise AllRead

    if targets:
        with (
            suppress(AllRead),
            data.predictions.replayed(data.plan.student_layers, batch_number),
            layer_hooks({layer.name: layer}, read),
        ):
            run_detector(data.student, data.batches[batch_number])
    return patches


@dataclasses.dataclass(frozen=True)
class RidgeFit:
    """Result of a regression.

    Attributes:
        linear_map: (D, outputs).
        constant: (outputs,).
        r_squared: share of the outputs' variance that is explained.
    """

    linear_map: Tensor
    constant: Tensor
    r_squared: float


def ridge_regression(inputs: Tensor, outputs: Tensor, with_constant: bool) -> RidgeFit:
    """Least squares from ``inputs`` (S, D) to ``outputs`` (S, outputs), with a small penalty.

    The penalty keeps the solution defined where inputs repeat each other. The constant has none.
    """
    input_mean = torch.zeros_like(inputs[0])
    output_mean = torch.zeros_like(outputs[0])
    if with_constant:
        input_mean = inputs.mean(dim=0)
        output_mean = outputs.mean(dim=0)
    x = inputs - input_mean
    y = outputs - output_mean
    penalty = max(RIDGE * float(x.square().sum()) / x.shape[1], 1e-12)
    # (X'X + p)^-1 X'y = X'(XX' + p)^-1 y: solve the smaller of the two systems.
    if x.shape[1] > x.shape[0]:
        gram = x @ x.T
        gram.diagonal().add_(penalty)
        linear_map = x.T @ torch.linalg.solve(gram, y)
    else:
        gram = x.T @ x
        gram.diagonal().add_(penalty)
        linear_map = torch.linalg.solve(gram, x.T @ y)
    residual = (y - x @ linear_map).square().sum()
    r_squared = 1 - float(residual / y.square().sum().clamp_min(1e-12))
    return RidgeFit(linear_map, output_mean - input_mean @ linear_map, r_squared)
