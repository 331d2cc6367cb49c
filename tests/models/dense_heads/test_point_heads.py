"""Point heads: targets, losses and boxes against values computed by hand."""

from __future__ import annotations

import math
import pickle

import pytest
import torch
from small_point_rcnn import point_head_config
from torch import Tensor, nn

from pcdet_distill.errors import ConfigError
from pcdet_distill.models.dense_heads import POINT_HEADS
from pcdet_distill.models.dense_heads.point_head_template import places_in_boxes
from pcdet_distill.types import BatchDict

# Faces along y: 4 m in y, 2 m in x.
CAR = [5.0, 0, 0, 4, 2, 2, math.pi / 2, 1]
CYCLIST = [9.0, 0, 0, 2, 1, 2, 0, 3]
PADDING = [0.0] * 8
BOXES = [[CAR, CYCLIST, PADDING], [PADDING, PADDING, PADDING]]

# Points (frame, x, y, z) and their labels; -1 is ignored.
PLACES_AND_LABELS = [
    ([0, 5, 1.9, 0], 1),  # in the car
    ([0, 5, 2.05, 0], -1),  # just outside, within the extra width of 0.2 m
    ([0, 5, 2.2, 0], 0),  # outside
    ([0, 6.05, 0, 0], -1),  # just outside at its side
    ([0, 9, 0, 1], 3),  # on top of the cyclist
    ([0, 0, 0, 0], 0),  # at the origin, where padding would be
    ([1, 5, 0, 0], 0),  # where only the other frame has a car
]
PLACES = [place for place, _ in PLACES_AND_LABELS]
LABELS = [label for _, label in PLACES_AND_LABELS]


def make_head(name: str = "PointHeadBox", num_class: int = 3, **changes: object) -> nn.Module:
    """A small head of this class."""
    torch.manual_seed(0)
    config = point_head_config(NAME=name, PART_FC=[8], **changes)
    return POINT_HEADS[name](
        model_cfg=config, num_class=num_class, input_channels=4, predict_boxes_when_training=True
    )


def make_batch(
    places: list[list[float]] = PLACES, boxes: list[list[list[float]]] = BOXES
) -> BatchDict:
    """Points (frame, x, y, z) with random features, and boxes per frame."""
    coords = torch.tensor(places, dtype=torch.float32).view(-1, 4)
    features = torch.randn(len(coords), 4, generator=torch.Generator().manual_seed(0))
    return {
        "point_coords": coords,
        "point_features": features,
        "gt_boxes": torch.tensor(boxes),
        "batch_size": len(boxes),
    }


# --- Targets


@pytest.mark.parametrize("num_class", [3, 1])
def test_labels_by_hand(num_class: int) -> None:
    targets = make_head(num_class=num_class).assign_targets(make_batch())
    # A head for one class calls every object class 1.
    expected = [min(label, num_class) for label in LABELS]
    assert targets["point_cls_labels"].tolist() == expected
    assert set(targets) == {"point_cls_labels"}


def box_and_part_targets() -> dict[str, Tensor]:
    """All targets of PLACES."""
    head = make_head("PointIntraPartOffsetHead")
    return head.assign_targets(make_batch(), ret_box_labels=True, ret_part_labels=True)


def test_points_outside_boxes_have_no_box_and_no_part() -> None:
    targets = box_and_part_targets()
    negative = targets["point_cls_labels"] <= 0
    assert (targets["point_box_labels"][negative] == 0).all()
    assert (targets["point_part_labels"][negative] == 0).all()


def test_box_targets_by_hand() -> None:
    in_the_car = box_and_part_targets()["point_box_labels"][0]
    # The centre lies 1.9 m towards -y. Distances are over the diagonal of the mean size, sizes
    # are logs of ratios to it, the heading of 90° is a cosine and a sine.
    diagonal = math.hypot(3.9, 1.6)
    sizes = [math.log(4 / 3.9), math.log(2 / 1.6), math.log(2 / 1.56)]
    expected = torch.tensor([0, -1.9 / diagonal, 0, *sizes, 0, 1])
    torch.testing.assert_close(in_the_car, expected, atol=1e-6, rtol=1e-5)


def test_part_targets_by_hand() -> None:
    parts = box_and_part_targets()["point_part_labels"]
    # 1.9 m ahead of the middle of 4 m; in the middle of the top.
    in_the_car = torch.tensor([0.5 + 1.9 / 4, 0.5, 0.5])
    on_the_cyclist = torch.tensor([0.5, 0.5, 1.0])
    torch.testing.assert_close(parts[0], in_the_car)
    torch.testing.assert_close(parts[4], on_the_cyclist)


def test_places_reach_from_zero_to_one() -> None:
    heading = math.pi / 6
    box = torch.tensor([1.0, 2, 3, 4, 2, 6, heading])
    centre = box[:3]
    ahead = torch.tensor([math.cos(heading), math.sin(heading), 0])
    # The box is 4 m long: the middle, its front, and a little behind its back.
    points = torch.stack([centre, centre + 2 * ahead, centre - 2.00001 * ahead])
    expected = torch.tensor([[0.5, 0.5, 0.5], [1, 0.5, 0.5], [0, 0.5, 0.5]])
    torch.testing.assert_close(places_in_boxes(points, box.expand(3, -1)), expected)


# --- Losses


def head_with(name: str, **tensors: Tensor) -> nn.Module:
    """A head as it is after forward, with these predictions and targets."""
    head = make_head(name)
    head.forward_ret_dict = tensors
    return head


def test_losses_by_hand() -> None:
    codes = torch.zeros(4, 8)
    codes[0, 0] = 1.0
    codes[3, 1] = 0.05
    codes[1, 2] = 9.0  # background, does not count
    codes[2, 3] = 9.0  # ignored, does not count
    head = head_with(
        "PointHeadBox",
        point_cls_labels=torch.tensor([1, 0, -1, 3]),
        point_cls_preds=torch.zeros(4, 3),
        point_box_labels=torch.zeros(4, 8),
        point_box_preds=codes,
    )
    loss, parts = head.get_loss()

    # Focal loss of logit 0: alpha (1/2)^2 log 2, with alpha 1/4 for the label and 3/4 for the
    # other classes. Two positives with one label and two other classes, one background point
    # with three other classes; all over two positives.
    hit = 0.25 * 0.5**2 * math.log(2)
    miss = 0.75 * 0.5**2 * math.log(2)
    expected_cls = (2 * (hit + 2 * miss) + 3 * miss) / 2
    # Smooth L1 with beta 1/9, of 1 and 0.05.
    expected_box = ((1 - 1 / 18) + 0.5 * 0.05**2 * 9) / 2
    assert parts["point_loss_cls"].item() == pytest.approx(expected_cls, rel=1e-5)
    assert parts["point_loss_box"].item() == pytest.approx(expected_box, rel=1e-5)
    assert parts["point_pos_num"] == 2
    assert loss.item() == pytest.approx(expected_cls + expected_box, rel=1e-5)


def test_part_loss_by_hand() -> None:
    head = head_with(
        "PointIntraPartOffsetHead",
        point_cls_labels=torch.tensor([2, 0]),
        point_cls_preds=torch.zeros(2, 3),
        point_part_preds=torch.zeros(2, 3),
        point_part_labels=torch.tensor([[1.0, 0.5, 0], [9, 9, 9]]),
    )
    _, parts = head.get_loss()
    # Binary cross entropy of probability 1/2 is log 2, whatever the target.
    assert parts["point_loss_part"].item() == pytest.approx(math.log(2), rel=1e-5)


@pytest.mark.parametrize(
    "name, weight, part",
    [
        ("PointHeadBox", "point_cls_weight", "point_loss_cls"),
        ("PointHeadBox", "point_box_weight", "point_loss_box"),
        ("PointIntraPartOffsetHead", "point_part_weight", "point_loss_part"),
    ],
)
def test_loss_weights_scale_their_part(name: str, weight: str, part: str) -> None:
    def loss_with(factor: float) -> float:
        head = make_head(name)
        head.loss_weights = {**head.loss_weights, weight: factor}
        head(make_batch())
        _, parts = head.get_loss()
        return parts[part].item()

    assert loss_with(3.0) == pytest.approx(3 * loss_with(1.0), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # PyTorch's losses of 0.5 know no code weights.
        ("l1", 0.5),
        ("smooth-l1", 0.5 * 0.5**2),
        # 0.5 times the code weight 2 is above beta = 1/9.
        ("WeightedSmoothL1Loss", 1 - 1 / 18),
    ],
)
def test_box_loss_by_its_name(name: str, expected: float) -> None:
    weights = {"point_cls_weight": 1.0, "point_box_weight": 1.0, "code_weights": [2.0] * 8}
    head = make_head(LOSS_CONFIG={"LOSS_REG": name, "LOSS_WEIGHTS": weights})
    loss = head.reg_loss_func(torch.full((1, 8), 0.5), torch.zeros(1, 8))
    assert loss.flatten().tolist() == pytest.approx([expected] * 8)


def test_an_unknown_box_loss_is_named() -> None:
    with pytest.raises(ConfigError, match="MODEL.POINT_HEAD.LOSS_CONFIG.LOSS_REG"):
        make_head(LOSS_CONFIG={"LOSS_REG": "smooth-l2", "LOSS_WEIGHTS": {}})


def test_box_head_needs_a_coder() -> None:
    with pytest.raises(ConfigError, match="BOX_CODER"):
        make_head(TARGET_CONFIG={"GT_EXTRA_WIDTH": [0, 0, 0]})


# --- Predictions


@pytest.mark.parametrize("name", ["PointHeadBox", "PointIntraPartOffsetHead"])
def test_codes_of_zero_are_the_mean_size_around_the_point(name: str) -> None:
    head = make_head(name).eval()
    last_classifier = head.cls_layers[-1]
    last_regressor = head.box_layers[-1]
    for parameter in [*last_classifier.parameters(), *last_regressor.parameters()]:
        nn.init.zeros_(parameter)
    with torch.no_grad():
        last_classifier.bias.copy_(torch.tensor([0.0, 2.0, 0.0]))

    places = [[0, 1, 2, 3], [1, 4, 5, 6]]
    batch = head(make_batch(places, boxes=[[PADDING], [PADDING]]))
    # The mean size of a pedestrian, the best class everywhere.
    expected = [[1, 2, 3, 0.8, 0.6, 1.73, 0], [4, 5, 6, 0.8, 0.6, 1.73, 0]]
    torch.testing.assert_close(batch["batch_box_preds"], torch.tensor(expected))
    assert batch["batch_index"].tolist() == [0, 1]
    assert batch["cls_preds_normalized"] is False
    torch.testing.assert_close(batch["batch_cls_preds"], torch.tensor([[0.0, 2, 0], [0.0, 2, 0]]))
    torch.testing.assert_close(batch["point_cls_scores"], torch.tensor([2.0, 2.0]).sigmoid())


def test_simple_head_scores_points() -> None:
    head = make_head("PointHeadSimple", num_class=1, USE_POINT_FEATURES_BEFORE_FUSION=True)
    batch = make_batch()
    batch["point_features_before_fusion"] = batch.pop("point_features")
    batch = head(batch)
    assert batch["point_cls_scores"].shape == (len(PLACES),)
    assert "batch_box_preds" not in batch

    loss, parts = head.get_loss()
    assert set(parts) == {"point_loss_cls", "point_pos_num"}
    assert parts["point_pos_num"] == 2
    loss.backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


def test_without_a_second_stage_training_decodes_no_boxes() -> None:
    head = make_head()
    head.predict_boxes_when_training = False
    assert "batch_box_preds" not in head(make_batch())


@pytest.mark.parametrize("name", list(POINT_HEADS))
@pytest.mark.parametrize("places", [[], [[0, 5, 0, 0]], [[0, 50, 0, 0], [1, 50, 0, 0]]])
def test_no_point_one_point_no_object(name: str, places: list[list[float]]) -> None:
    head = make_head(name)
    head(make_batch(places))
    loss, parts = head.get_loss()
    assert torch.isfinite(loss)
    for part in parts.values():
        assert torch.isfinite(part.float())
    loss.backward()
    for parameter in head.parameters():
        assert torch.isfinite(parameter.grad).all()
    with torch.no_grad():
        head.eval()(make_batch(places))


def test_targets_leave_their_inputs_alone() -> None:
    batch = make_batch()
    before = batch["gt_boxes"].clone()
    make_head()(batch)
    assert torch.equal(batch["gt_boxes"], before)


def test_a_head_can_be_pickled_after_a_training_step() -> None:
    head = make_head()
    head(make_batch())
    copied = pickle.loads(pickle.dumps(head))
    assert copied.forward_ret_dict == {}
