"""Short trainings for every detector: a few steps, and overfitting one scene."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from small_model import make_batch, random_scene
from torch import nn


def losses_of_a_few_steps(model: nn.Module, batch: dict[str, Any], steps: int = 12) -> list[float]:
    """The loss before each of some steps on one batch."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(dict(batch))[0]["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def check_overfits_one_scene(model: nn.Module) -> None:
    """After overfitting one frame, a detector finds its boxes with their classes and headings."""
    points, boxes = random_scene(11)
    boxes[:, 1] = [-5, 0, 5]
    boxes[:, 0] = [4, 8, 12]  # apart from each other
    random = np.random.RandomState(0)
    on_boxes = [row[:3] + random.uniform(-0.5, 0.5, (60, 3)) * row[3:6] for row in boxes]
    points = np.concatenate(
        [points[:300], np.pad(np.concatenate(on_boxes), ((0, 0), (0, 1)))]
    ).astype(np.float32)
    batch = make_batch([(points, boxes)])
    optimizer = torch.optim.Adam(model.train().parameters(), lr=5e-3)
    for step in range(400):
        if step == 300:
            optimizer.param_groups[0]["lr"] = 5e-4
        optimizer.zero_grad()
        model(dict(batch))[0]["loss"].backward()
        optimizer.step()
    (found,), recall = model.eval()(dict(batch))
    assert recall["rcnn_0.7"] == len(boxes)
    for row in torch.from_numpy(boxes):
        nearest = (found["pred_boxes"][:, :2] - row[:2]).norm(dim=1).argmin()
        assert found["pred_labels"][nearest] == row[7]
        assert found["pred_scores"][nearest] > 0.5
        assert torch.cos(found["pred_boxes"][nearest, 6] - row[6]) > 0.95
