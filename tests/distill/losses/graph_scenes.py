"""Random nodes and built losses for the tests of GraphDistillLoss."""

from __future__ import annotations

import torch

from pcdet_distill.distill.losses.graph import GraphDistillLoss, GraphOptions
from pcdet_distill.distill.losses.graph_options import OFFICIAL
from pcdet_distill.distill.nodes import NodeFeatures
from pcdet_distill.models.taps import TapInfo

PRESETS = {
    "default": GraphOptions(),
    **{f"official_{kind}": options for kind, options in OFFICIAL.items()},
}
SMALL = GraphOptions(num_nodes=7, num_neighbors=4, embed_dim=5, score="saliency")
STUDENT_CHANNELS = 3
TEACHER_CHANNELS = 6


def voxel_tap(channels: int) -> TapInfo:
    return TapInfo("t", channels, 1, "voxel")


def nodes(features: torch.Tensor, batch_index: torch.Tensor) -> NodeFeatures:
    """Nodes at random places, with random scores."""
    generator = torch.Generator().manual_seed(0)
    count = len(features)
    coords = torch.rand(count, 3, generator=generator, dtype=features.dtype)
    saliency = torch.randperm(count, generator=generator).to(features.dtype) + 1
    objectness = torch.rand(count, generator=generator, dtype=features.dtype)
    return NodeFeatures(features, batch_index, coords, saliency, objectness=objectness)


def scene(
    count: int = 40, frames: int = 2, dtype: torch.dtype = torch.float64
) -> tuple[NodeFeatures, NodeFeatures]:
    """Student and teacher nodes with random features; rows of the frames lie mixed."""
    generator = torch.Generator().manual_seed(0)
    batch_index = torch.randint(0, frames, (count,), generator=generator)
    student = torch.randn(count, STUDENT_CHANNELS, generator=generator, dtype=dtype)
    teacher = torch.randn(count, TEACHER_CHANNELS, generator=generator, dtype=dtype)
    return nodes(student.requires_grad_(), batch_index), nodes(teacher, batch_index)


def build(
    options: GraphOptions = SMALL,
    dtype: torch.dtype = torch.float64,
    channels: tuple[int, int] = (STUDENT_CHANNELS, TEACHER_CHANNELS),
) -> GraphDistillLoss:
    """The loss with random parameters, those of the normalisation too."""
    torch.manual_seed(1)
    student_channels, teacher_channels = channels
    module = GraphDistillLoss(voxel_tap(student_channels), voxel_tap(teacher_channels), options)
    module = module.to(dtype)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module


def gradients(
    loss: torch.Tensor, module: GraphDistillLoss, student: NodeFeatures
) -> dict[str, torch.Tensor]:
    """The gradient of every parameter by its name, and of the student's features."""
    module.zero_grad()
    student.features.grad = None
    loss.backward()
    found = {name: parameter.grad.clone() for name, parameter in module.named_parameters()}
    found["student"] = student.features.grad.clone()
    return found
