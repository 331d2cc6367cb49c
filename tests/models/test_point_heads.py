"""Point heads: targets, losses and boxes against values computed by hand."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest
import torch
from small_point_rcnn import point_head_config
from torch import Tensor, nn

from pcdet_distill.errors import ConfigError
from pcdet_distill.models.dense_heads import POINT_HEADS
from pcdet_distill.models.dense_heads.point_head_template import places_in_boxes

CAR = [5.0, 0, 0, 4, 2, 2, math.pi / 2, 1]  # faces along y: 4 m in y, 2 m in x
CYCLIST = [9.0, 0, 0, 2, 1, 2, 0, 3]


def make_head(name: str = "PointHeadBox", num_class: int = 3, **changes: Any) -> nn.Module:
    torch.manual_seed(0)
    config = point_head_config(NAME=name, PART_FC=[8], **changes)
    return POINT_HEADS[name](
        model_cfg=config, num_class=num_class, input_channels=4, predict_boxes_when_training=True
    )


def make_batch(places: list[list[float]], boxes: list[list[list[float]]]) -> dict[str, Any]:
    """Points (frame, x, y, z) and boxes per frame."""
    coords = torch.tensor(places, dtype=torch.float32).view(-1, 4)
    features = torch.randn(len(coords), 4, generator=torch.Generator().manual_seed(0))
    return {
        "point_coords": coords,
        "point_features": features,
        "gt_boxes": torch.tensor(boxes),
        "batch_size": len(boxes),
    }


PADDING = [0.0] * 8
PLACES = [
    [0, 5, 1.9, 0],
    [0, 5, 2.05, 0],
    [0, 5, 2.2, 0],
    [0, 6.05, 0, 0],
    [0, 9, 0, 1],
    [0, 0, 0, 0],
    [1, 5, 0, 0],
]
LABELS = [1, -1, 0, -1, 3, 0, 0]
BOXES = [[CAR, CYCLIST, PADDING], [PADDING, PADDING, PADDING]]


@pytest.mark.parametrize("num_class", [3, 1])
def test_labels_by_hand(num_class: int) -> None:
    """A label for each place.

    In the car, just outside, outside, just outside at its side, on top of the cyclist, at the
    origin where padding would be, and where only another frame has a car.
    """
    targets = make_head(num_class=num_class).assign_targets(make_batch(PLACES, BOXES))
    expected = [min(label, num_class) for label in LABELS]
    assert targets["point_cls_labels"].tolist() == expected
    assert set(targets) == {"point_cls_labels"}


def test_box_and_part_targets_by_hand() -> None:
    head = make_head("PointIntraPartOffsetHead")
    targets = head.assign_targets(
        make_batch(PLACES, BOXES), ret_box_labels=True, ret_part_labels=True
    )
    positive = targets["point_cls_labels"] > 0
    assert (targets["point_box_labels"][~positive] == 0).all()
    assert (targets["point_part_labels"][~positive] == 0).all()
    diagonal = math.hypot(3.9, 1.6)
    car = [0, -1.9 / diagonal, 0, math.log(4 / 3.9), math.log(2 / 1.6), math.log(2 / 1.56), 0, 1]
    torch.testing.assert_close(
        targets["point_box_labels"][0], torch.tensor(car), atol=1e-6, rtol=1e-5
    )
    torch.testing.assert_close(
        targets["point_part_labels"][0], torch.tensor([0.5 + 1.9 / 4, 0.5, 0.5])
    )
    torch.testing.assert_close(targets["point_part_labels"][4], torch.tensor([0.5, 0.5, 1.0]))


def test_places_reach_from_zero_to_one() -> None:
    box = torch.tensor([[1.0, 2, 3, 4, 2, 6, math.pi / 6]])
    ahead = torch.tensor([math.cos(math.pi / 6), math.sin(math.pi / 6), 0])
    points = torch.stack([box[0, :3], box[0, :3] + 2 * ahead, box[0, :3] - 2.00001 * ahead])
    expected = torch.tensor([[0.5, 0.5, 0.5], [1, 0.5, 0.5], [0, 0.5, 0.5]])
    torch.testing.assert_close(places_in_boxes(points, box.expand(3, -1)), expected)


def prepared(name: str, **tensors: Tensor) -> nn.Module:
    head = make_head(name)
    head.forward_ret_dict = tensors
    return head


def test_losses_by_hand() -> None:
    """Logits 0: the focal loss is 1/16 log 2 for the label, 3/16 log 2 for other classes."""
    labels = torch.tensor([1, 0, -1, 3])
    codes = torch.zeros(4, 8)
    codes[0, 0] = 1.0
    codes[3, 1] = 0.05
    codes[1, 2] = 9.0
    codes[2, 3] = 9.0
    head = prepared(
        "PointHeadBox",
        point_cls_labels=labels,
        point_cls_preds=torch.zeros(4, 3),
        point_box_labels=torch.zeros(4, 8),
        point_box_preds=codes,
    )
    loss, parts = head.get_loss()
    hit = 0.0625 * math.log(2)
    miss = 0.1875 * math.log(2)
    expected_cls = (2 * (hit + 2 * miss) + 3 * miss) / 2
    expected_box = ((1 - 1 / 18) + 0.5 * 0.05**2 * 9) / 2
    assert parts["point_loss_cls"].item() == pytest.approx(expected_cls, rel=1e-5)
    assert parts["point_loss_box"].item() == pytest.approx(expected_box, rel=1e-5)
    assert parts["point_pos_num"] == 2
    assert loss.item() == pytest.approx(expected_cls + expected_box, rel=1e-5)


def test_part_loss_by_hand() -> None:
    head = prepared(
        "PointIntraPartOffsetHead",
        point_cls_labels=torch.tensor([2, 0]),
        point_cls_preds=torch.zeros(2, 3),
        point_part_preds=torch.zeros(2, 3),
        point_part_labels=torch.tensor([[1.0, 0.5, 0], [9, 9, 9]]),
    )
    _, parts = head.get_loss()
    assert parts["point_loss_part"].item() == pytest.approx(math.log(2), rel=1e-5)


@pytest.mark.parametrize(
    "name, weight",
    [
        ("PointHeadBox", "point_cls_weight"),
        ("PointHeadBox", "point_box_weight"),
        ("PointIntraPartOffsetHead", "point_part_weight"),
    ],
)
def test_loss_weights_count(name: str, weight: str) -> None:
    part = weight.replace("_weight", "").replace("point_", "point_loss_")
    values = []
    for factor in (1.0, 3.0):
        head = make_head(name)
        head.loss_weights = {**head.loss_weights, weight: factor}
        head(make_batch(PLACES, BOXES))
        values.append(head.get_loss()[1][part].item())
    assert values[1] == pytest.approx(3 * values[0], rel=1e-5)


@pytest.mark.parametrize("name", ["l1", "smooth-l1", "WeightedSmoothL1Loss"])
def test_box_losses(name: str) -> None:
    head = make_head(
        LOSS_CONFIG={
            "LOSS_REG": name,
            "LOSS_WEIGHTS": {
                "point_cls_weight": 1.0,
                "point_box_weight": 1.0,
                "code_weights": [2.0] * 8,
            },
        }
    )
    difference = head.reg_loss_func(torch.tensor([[0.5] * 8]), torch.zeros(1, 8))
    assert difference.flatten().tolist() == pytest.approx(
        [{"l1": 0.5, "smooth-l1": 0.125, "WeightedSmoothL1Loss": 1 - 1 / 18}[name]] * 8
    )


def test_unknown_box_loss() -> None:
    with pytest.raises(ConfigError, match="MODEL.POINT_HEAD.LOSS_CONFIG.LOSS_REG"):
        make_head(LOSS_CONFIG={"LOSS_REG": "smooth-l2", "LOSS_WEIGHTS": {}})


def test_box_head_needs_a_coder() -> None:
    with pytest.raises(ConfigError, match="BOX_CODER"):
        make_head(TARGET_CONFIG={"GT_EXTRA_WIDTH": [0, 0, 0]})


@pytest.mark.parametrize("name", ["PointHeadBox", "PointIntraPartOffsetHead"])
def test_boxes_by_hand(name: str) -> None:
    """Codes of 0 mean the mean size of the best class around the point, with heading 0."""
    head = make_head(name).eval()
    for parameter in [*head.cls_layers[-1].parameters(), *head.box_layers[-1].parameters()]:
        nn.init.zeros_(parameter)
    with torch.no_grad():
        head.cls_layers[-1].bias.copy_(torch.tensor([0.0, 2.0, 0.0]))
    batch = head(make_batch([[0, 1, 2, 3], [1, 4, 5, 6]], [[PADDING]] * 2))
    expected = [[1, 2, 3, 0.8, 0.6, 1.73, 0], [4, 5, 6, 0.8, 0.6, 1.73, 0]]
    torch.testing.assert_close(batch["batch_box_preds"], torch.tensor(expected))
    assert batch["batch_index"].tolist() == [0, 1]
    assert batch["cls_preds_normalized"] is False
    torch.testing.assert_close(batch["point_cls_scores"], torch.tensor([2.0, 2.0]).sigmoid())
    torch.testing.assert_close(batch["batch_cls_preds"], torch.tensor([[0.0, 2, 0]] * 2))


def test_simple_head_scores_points() -> None:
    head = make_head("PointHeadSimple", num_class=1, USE_POINT_FEATURES_BEFORE_FUSION=True)
    batch = make_batch(PLACES, BOXES)
    batch["point_features_before_fusion"] = batch.pop("point_features")
    batch = head(batch)
    assert batch["point_cls_scores"].shape == (7,)
    assert "batch_box_preds" not in batch
    loss, parts = head.get_loss()
    assert set(parts) == {"point_loss_cls", "point_pos_num"}
    assert parts["point_pos_num"] == 2
    loss.backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


def test_without_a_second_stage_training_decodes_no_boxes() -> None:
    head = make_head()
    head.predict_boxes_when_training = False
    assert "batch_box_preds" not in head(make_batch(PLACES, BOXES))


@pytest.mark.parametrize("name", list(POINT_HEADS))
@pytest.mark.parametrize("places", [[], [[0, 5, 0, 0]], [[0, 50, 0, 0], [1, 50, 0, 0]]])
def test_no_point_one_point_no_object(name: str, places: list[list[float]]) -> None:
    head = make_head(name)
    head(make_batch(places, BOXES))
    loss, parts = head.get_loss()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(part.float()) for part in parts.values())
    loss.backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in head.parameters())
    with torch.no_grad():
        head.eval()(make_batch(places, BOXES))


def test_targets_leave_their_inputs_alone_and_copies_need_no_graph() -> None:
    head = make_head()
    batch = make_batch(PLACES, BOXES)
    before = batch["gt_boxes"].clone()
    head(batch)
    assert torch.equal(batch["gt_boxes"], before)
    assert pickle.loads(pickle.dumps(head)).forward_ret_dict == {}
