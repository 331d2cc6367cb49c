"""The teacher's weights of the chosen channels into the student, and batch norm's statistics measured anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .layers import Layer, listening, run
from .plan import Plan

STATISTICS = ("running_mean", "running_var")
NOT_COPIED = {"global_step"}  # counts the student's own training steps


@torch.no_grad()
def copy_weights(teacher: nn.Module, student: nn.Module, plan: Plan) -> None:
    """Every tensor of the student: the chosen part of the teacher's, or the whole where nothing is dropped."""
    theirs, own = (
        dict([*model.named_parameters(), *model.named_buffers()]) for model in (teacher, student)
    )
    for name, tensor in own.items():
        if name in NOT_COPIED:
            continue
        owner, _, key = name.rpartition(".")
        tensor.copy_(
            _chosen(theirs[name], plan, owner, key)
            if owner in plan.student_layers
            else theirs[name]
        )


def _chosen(tensor: Tensor, plan: Plan, name: str, key: str) -> Tensor:
    """The part of a layer's tensor that the student has."""
    layer = plan.student_layers[name]
    if name not in plan.flows or tensor.dim() == 0:
        return tensor
    outputs = plan.outputs(name).to(tensor.device)
    if tensor.dim() == 1:
        return tensor[outputs]
    return tensor.index_select(layer.out_axis, outputs).index_select(
        layer.in_axis, plan.inputs(name).to(tensor.device)
    )


@torch.no_grad()
def measure_statistics(
    student: Any, plan: Plan, batches: Sequence[Mapping[str, Any]], proposals: Proposals
) -> int:
    """Running statistics of the norms that no longer see what the teacher's saw; how many norms there are.

    In each batch a norm uses the batch's own statistics, as it will in training, so every layer is measured behind
    layers that have been; what it keeps is the mean and variance over all rows of all batches.
    """
    changed = {
        name: plan.student_layers[name]
        for name, flow in plan.flows.items()
        if flow.layer.is_norm and not plan.is_exact(name)
    }
    moments = {name: RowMoments() for name in changed}

    def before(layer: Layer, inputs: tuple) -> None:
        weight = inputs[1] if len(inputs) > 1 else None
        batch = RowMoments()
        batch.add(layer.rows(inputs[0]), weight)
        moments[layer.name].merge(batch)
        batch.write(layer.module, batch.count)

    handles = [
        layer.module.register_forward_pre_hook(lambda _, inputs, layer=layer: before(layer, inputs))
        for layer in changed.values()
    ]
    try:
        for number, batch in enumerate(batches):
            with proposals.replayed(plan.student_layers, number):
                run(student, batch)
    finally:
        for handle in handles:
            handle.remove()
    for name, layer in changed.items():
        moments[name].write(layer.module, moments[name].count - 1)
    return len(changed)


class RowMoments:
    """Count, mean and squared deviations of rows (R, C), float64; can be merged (Chan et al., 1979)."""

    def __init__(self) -> None:
        self.count = 0.0
        self.mean: Tensor | float = 0.0
        self.squares: Tensor | float = 0.0

    def add(self, rows: Tensor, weight: Tensor | None = None) -> None:
        """Rows of a batch, each counting ``weight`` (R,) times."""
        if len(rows) == 0:
            return
        rows = rows.double()
        weight = rows.new_ones(len(rows)) if weight is None else weight.double()
        self.count = float(weight.sum())
        self.mean = (rows * weight[:, None]).sum(dim=0) / self.count
        self.squares = ((rows - self.mean).square() * weight[:, None]).sum(dim=0)

    def merge(self, other: RowMoments) -> None:
        """Take in other rows."""
        total = self.count + other.count
        if other.count == 0:
            return
        step = other.mean - self.mean
        self.squares = (
            self.squares + other.squares + step * step * (self.count * other.count / total)
        )
        self.mean = self.mean + step * (other.count / total)
        self.count = total

    def write(self, norm: Any, divisor: float) -> None:
        """Into a norm's running statistics; nothing where there were not two rows.

        Args:
            divisor: of the squared deviations: their number, as a norm divides in training, or one less, as it keeps.
        """
        if self.count > 1:
            norm.running_mean.copy_(self.mean)
            norm.running_var.copy_(self.squares / divisor)


class Proposals:
    """What the teacher predicted for each batch, so that a student's second stage is shown the same proposals.

    Only predictions that a layer with features comes after are kept: those of the last head do not matter.
    """

    def __init__(self, plan: Plan, predictions: set[str]) -> None:
        order = list(plan.flows)
        last = max(
            (
                number
                for number, name in enumerate(order)
                if name not in predictions and not plan.flows[name].layer.is_norm
            ),
            default=-1,
        )
        self.names = {name for name in order[: max(last, 0)] if name in predictions}
        self.outputs: list[dict[str, list[Any]]] = []

    def record(self, teacher: Any, plan: Plan, batches: Sequence[Mapping[str, Any]]) -> None:
        """Run the teacher, where there is anything to record."""
        for batch in batches if self.names else ():
            heard: dict[str, list[Any]] = {}

            def listener(layer: Layer, inputs: tuple, output: Any) -> None:
                heard.setdefault(layer.name, []).append(output)  # noqa: B023

            with listening({name: plan.flows[name].layer for name in self.names}, listener):
                run(teacher, batch)
            self.outputs.append(heard)

    def replayed(self, layers: Mapping[str, Layer], number: int) -> Any:
        """Inside, the student predicts for batch ``number`` what the teacher predicted."""
        waiting = (
            {name: iter(outputs) for name, outputs in self.outputs[number].items()}
            if self.names
            else {}
        )
        return listening(
            {name: layers[name] for name in waiting},
            lambda layer, inputs, output: next(waiting[layer.name]),
        )
