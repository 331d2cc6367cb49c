"""Short trainings for every detector: a few steps, and overfitting one scene."""

from __future__ import annotations

import numpy as np
import torch
from small_model import make_batch, random_scene
from torch import nn

from pcdet_distill.types import BatchDict


def losses_of_a_few_steps(model: nn.Module, batch: BatchDict, steps: int = 12) -> list[float]:
    """The loss before each of some steps on one batch."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        ret_dict, _, _ = model(dict(batch))
        loss = ret_dict["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def boxes_apart_from_each_other() -> tuple[np.ndarray, BatchDict]:
    """Three boxes (3, 8) along a diagonal, and a batch with the ground and points on them."""
    points, boxes = random_scene(11)
    boxes[:, 0] = [4, 8, 12]
    boxes[:, 1] = [-5, 0, 5]
    random = np.random.RandomState(0)
    points_of_boxes = []
    for row in boxes:
        in_unit_box = random.uniform(-0.5, 0.5, (60, 3))
        points_of_boxes.append(row[:3] + in_unit_box * row[3:6])
    xyz = np.concatenate(points_of_boxes)
    without_intensity = np.pad(xyz, ((0, 0), (0, 1)))
    ground = points[:300]
    scene = np.concatenate([ground, without_intensity]).astype(np.float32)
    return boxes, make_batch([(scene, boxes)])


def check_overfits_one_scene(model: nn.Module) -> None:
    """After overfitting one frame, a detector finds its boxes with their classes and headings."""
    boxes, batch = boxes_apart_from_each_other()
    optimizer = torch.optim.Adam(model.train().parameters(), lr=5e-3)
    for step in range(400):
        if step == 300:
            optimizer.param_groups[0]["lr"] = 5e-4
        optimizer.zero_grad()
        ret_dict, _, _ = model(dict(batch))
        ret_dict["loss"].backward()
        optimizer.step()
    (found,), recall = model.eval()(dict(batch))
    assert recall["rcnn_0.7"] == len(boxes)
    for row in torch.from_numpy(boxes):
        nearest = (found["pred_boxes"][:, :2] - row[:2]).norm(dim=1).argmin()
        assert found["pred_labels"][nearest] == row[7]
        assert found["pred_scores"][nearest] > 0.5
        assert torch.cos(found["pred_boxes"][nearest, 6] - row[6]) > 0.95
