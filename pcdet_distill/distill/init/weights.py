"""SLICE: copies the teacher's weights of the kept channels to the student."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .plan import ChannelPlan

NOT_COPIED = {"global_step"}  # counts the student's own training steps


@torch.no_grad()
def copy_weights(teacher: nn.Module, student: nn.Module, plan: ChannelPlan) -> None:
    """Set all tensors of the student: in layers the kept part of the teacher's, else all of it."""
    teacher_tensors = _named_tensors(teacher)
    for name, tensor in _named_tensors(student).items():
        if name in NOT_COPIED:
            continue
        owner, _, key = name.rpartition(".")
        source = teacher_tensors[name]
        if owner in plan.student_layers:
            source = _kept_part(source, plan, owner)
        tensor.copy_(source)


def _named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name."""
    return dict([*model.named_parameters(), *model.named_buffers()])


def _kept_part(tensor: Tensor, plan: ChannelPlan, name: str) -> Tensor:
    """The part of a teacher layer's tensor that belongs to kept channels."""
    if name not in plan.flows or tensor.dim() == 0:
        return tensor
    outputs = plan.kept_outputs(name).to(tensor.device)
    if tensor.dim() == 1:  # a bias, or a tensor of a norm
        return tensor[outputs]
    layer = plan.student_layers[name]
    inputs = plan.kept_inputs(name).to(tensor.device)
    return tensor.index_select(layer.out_axis, outputs).index_select(layer.in_axis, inputs)
