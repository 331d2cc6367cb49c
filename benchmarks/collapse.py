"""Claim: with PRESET default a student of noise learns nothing and the loss says so; the published adapters collapse.

Three students of the same made-up teacher: pure noise; a fixed projection of the teacher; one layer that learns from
the input. The adapters (and the layer) are trained by the loss alone. Printed are the loss along the way, and for the
layer how well the teacher's features can be read from the student's before and after (R2 of a linear fit, fresh data).

    python benchmarks/collapse.py [--steps 600]
"""
from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor, nn

from pcdet_distill.distill.losses.graph import GraphDistillLoss, GraphOptions
from pcdet_distill.distill.nodes import NodeFeatures

NODES, INPUTS, TEACHER_CHANNELS, STUDENT_CHANNELS = 1500, 10, 64, 32
ADAPTERS = {  # plain mean weights for all, so that only the adapters differ
    adapter: GraphOptions(num_nodes=300, num_neighbors=16, weighting="none", teacher_adapter=adapter)
    for adapter in ("trained", "frozen", "none")
}


class World:
    """A teacher whose features are one rectified layer of a random input."""

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
        with_one = [torch.cat([self.learner(part), torch.ones(NODES, 1)], dim=1) for part in (fit_inputs, inputs)]
        found = with_one[1] @ torch.linalg.lstsq(with_one[0], fit_teacher).solution
        return 1 - float((found - teacher).square().sum() / (teacher - teacher.mean(0)).square().sum())


def train(kind: str, options: GraphOptions, steps: int) -> tuple[list[float], World]:
    """Loss at some steps, and the world afterwards."""
    world = World()
    loss_module = GraphDistillLoss(STUDENT_CHANNELS, TEACHER_CHANNELS, options)
    trained = [*loss_module.parameters(), *world.learner.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=0.01, weight_decay=0.01)
    frame, places = torch.zeros(NODES, dtype=torch.long), torch.zeros(NODES, 3)
    losses = []
    for step in range(steps + 1):
        inputs, teacher = world.sample()
        sides = [NodeFeatures(features, frame, places, torch.rand(NODES))
                 for features in (world.students[kind](inputs, teacher), teacher)]
        loss = loss_module(*sides, {})
        if step in (0, steps // 6, steps // 2, steps):
            losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses, world


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=600)
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    print(f"teacher adapter  student     loss at step 0, {steps // 6}, {steps // 2}, {steps}")
    for adapter, options in ADAPTERS.items():
        for kind in ("noise", "projection", "learner"):
            losses, world = train(kind, options, steps)
            note = f"   R2 {World().readable():.3f} -> {world.readable():.3f}" if kind == "learner" else ""
            print(f"{adapter:<16} {kind:<11} {'  '.join(f'{loss:.4f}' for loss in losses)}{note}", flush=True)


if __name__ == "__main__":
    main()
