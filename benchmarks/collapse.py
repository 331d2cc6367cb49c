"""Claim: a student of noise learns nothing with PRESET default; the published adapters collapse.

The first table trains only the adapters, for every kind of node (pillars, BEV maps, points) and
both presets, with a student of pure noise. It prints the loss during the training. It also prints
the share of each adapter's channels that are constant at its end, as a training logs it: on queries
drawn by their weights. Two in a hundred pillars are full, and the published weights fall on these.

The second table compares three adapters of the teacher (``TEACHER_ADAPTER``: trained as published,
a frozen projection, none) for three students of one random teacher: noise, a fixed projection of
the teacher, and a layer that learns. For the layer it prints R2 of a linear fit of the teacher's
features to the student's, before and after, on fresh data. A good adapter keeps the loss of noise
near 1, gives the projection a lower loss, and teaches the layer no less than the published one.

    python benchmarks/collapse.py [--steps 600]
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor, nn

from pcdet_distill.distill.losses.graph import GraphDistillLoss, GraphOptions
from pcdet_distill.distill.losses.graph_options import preset_options
from pcdet_distill.distill.node_converters import bev_nodes, point_nodes, voxel_nodes
from pcdet_distill.distill.nodes import NodeFeatures, NodeGrid
from pcdet_distill.models.taps import TapInfo

NODES, INPUTS, TEACHER_CHANNELS, STUDENT_CHANNELS = 800, 10, 64, 32
FRAMES, SIDE = 2, 20  # two frames of 20 x 20 cells, or 400 pillars or points
FULL, FULL_SHARE = 32, 0.02  # points of a full pillar, and how many pillars are full
SMALL = {"num_nodes": 200, "num_neighbors": 16, "score": "saliency"}
ADAPTERS = {  # plain mean weights for all, so that only the adapters differ
    adapter: GraphOptions(**SMALL, weighting="none", teacher_adapter=adapter)
    for adapter in ("trained", "frozen", "none")
}


class ToyTask:
    """A teacher whose features are one rectified layer of a random input, and three students."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.teacher_weight = torch.randn(INPUTS, TEACHER_CHANNELS) / 3
        self.projection = torch.randn(TEACHER_CHANNELS, STUDENT_CHANNELS) / 8
        self.learner = nn.Sequential(nn.Linear(INPUTS, STUDENT_CHANNELS), nn.ReLU())
        self.students: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
            "noise": lambda inputs, teacher: torch.randn(NODES, STUDENT_CHANNELS).relu(),
            "projection": lambda inputs, teacher: (teacher @ self.projection).relu(),
            "learner": lambda inputs, teacher: self.learner(inputs),
        }

    def sample(self) -> tuple[Tensor, Tensor]:
        """Fresh inputs and the teacher's features."""
        inputs = torch.randn(NODES, INPUTS)
        return inputs, (inputs @ self.teacher_weight).relu()

    @torch.no_grad()
    def readable(self) -> float:
        """R2 of the teacher's features, fitted linearly to the learner's."""
        (fit_inputs, fit_teacher), (inputs, teacher) = self.sample(), self.sample()
        with_one = [
            torch.cat([self.learner(part), torch.ones(NODES, 1)], dim=1)
            for part in (fit_inputs, inputs)
        ]
        found = with_one[1] @ torch.linalg.lstsq(with_one[0], fit_teacher).solution
        return 1 - float(
            (found - teacher).square().sum() / (teacher - teacher.mean(0)).square().sum()
        )


def nodes_of(kind: str, features: Tensor) -> NodeFeatures:
    """Rows (N, C) of two frames as nodes of a kind."""
    frame = torch.arange(NODES) // (NODES // FRAMES)
    place = torch.arange(NODES) % (NODES // FRAMES)
    grid = NodeGrid((1.0, 1.0, 4.0), (0.0, 0.0, -3.0), (SIDE, SIDE, 1))
    if kind == "bev":
        return bev_nodes(features.view(FRAMES, SIDE, SIDE, -1).permute(0, 3, 1, 2), {}, grid)
    if kind == "point":
        coords = torch.stack([frame, place, place * 0, place * 0], dim=1).float()
        return point_nodes(features, {"point_coords": coords}, None)
    coords = torch.stack([frame, place * 0, place // SIDE, place % SIDE], dim=1)
    counts = torch.randint(1, FULL, (NODES,)).float()
    counts[torch.rand(NODES) < FULL_SHARE] = FULL
    return voxel_nodes(features, {"voxel_coords": coords, "voxel_num_points": counts}, grid)


def train(
    student: str, options: GraphOptions, steps: int, kind: str = "voxel"
) -> tuple[list[float], ToyTask, dict]:
    """Loss at some steps, the trained task and the logs of the loss."""
    task = ToyTask()
    student_tap = TapInfo("student", STUDENT_CHANNELS, 1, kind)
    teacher_tap = TapInfo("teacher", TEACHER_CHANNELS, 1, kind)
    loss_module = GraphDistillLoss(student_tap, teacher_tap, options)
    trained = [*loss_module.parameters(), *task.learner.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=0.01, weight_decay=0.01)
    losses = []
    for step in range(steps + 1):
        inputs, teacher = task.sample()
        loss = loss_module(
            nodes_of(kind, task.students[student](inputs, teacher)), nodes_of(kind, teacher), {}
        )
        if step in (0, steps // 6, steps // 2, steps):
            losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses, task, loss_module.logs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=600)
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    shown = f"loss at step 0, {steps // 6}, {steps // 2}, {steps}"
    print(f"a student of noise\nnodes   preset    {shown}   constant channels: teacher, student")
    for kind in ("voxel", "bev", "point"):
        for preset in ("official", "default"):
            options = preset_options(preset, TapInfo("s", STUDENT_CHANNELS, 1, kind), preset)
            losses, _, logs = train("noise", dataclasses.replace(options, **SMALL), steps, kind)
            print(
                f"{kind:<7} {preset:<9} {'  '.join(f'{loss:.4f}' for loss in losses)}   "
                f"{logs['dead_teacher']:.0%}, {logs['dead_student']:.0%}",
                flush=True,
            )
    print(f"\nteacher adapter  student     {shown}")
    for adapter, options in ADAPTERS.items():
        for student in ("noise", "projection", "learner"):
            losses, task, _ = train(student, options, steps)
            note = (
                f"   R2 {ToyTask().readable():.3f} -> {task.readable():.3f}"
                if student == "learner"
                else ""
            )
            print(
                f"{adapter:<16} {student:<11} {'  '.join(f'{loss:.4f}' for loss in losses)}{note}",
                flush=True,
            )


if __name__ == "__main__":
    main()
