"""Descriptions of heads: layers that give class scores, layouts of predictions."""

from __future__ import annotations

import pytest
import torch
from easydict import EasyDict
from small_center import center_config
from small_model import CLASS_NAMES, make_batch, model_config, random_scene, small_model
from small_multi_head import multi_config, multi_model_config
from small_point_rcnn import point_batch, small_point_rcnn
from small_second import second_batch, small_second
from small_two_stage import TWO_STAGE_CONFIGS
from torch import Tensor

from pcdet_distill.models import Detector3DTemplate
from pcdet_distill.models.dense_heads import DENSE_HEADS, POINT_HEADS
from pcdet_distill.models.dense_heads.center_targets import decode_centers, encode_centers
from pcdet_distill.models.dense_heads.detection_head import DetectionHead
from pcdet_distill.models.roi_heads import ROI_HEADS
from pcdet_distill.types import BatchDict

SCENES = [random_scene(0), random_scene(1)]
PILLAR_CONFIGS = {
    "AnchorHeadSingle": model_config,
    "AnchorHeadMulti": multi_model_config,
    "CenterHead": center_config,
}
SEPARATE_BRANCHES = {
    "NUM_MIDDLE_CONV": 1,
    "NUM_MIDDLE_FILTER": 8,
    "REG_LIST": ["reg:2", "height:1", "size:3", "angle:1"],
}
ALL_NAMES = [*PILLAR_CONFIGS, "PointRCNN", *TWO_STAGE_CONFIGS]


def separate_branches_config() -> EasyDict:
    """MODEL whose class convolution is the last layer of a branch."""
    config = multi_model_config()
    config.DENSE_HEAD = multi_config(SEPARATE_REG_CONFIG=EasyDict(SEPARATE_BRANCHES))
    return config


def detector_and_batch(name: str) -> tuple[Detector3DTemplate, BatchDict]:
    """A small detector and two scenes for it."""
    if name in PILLAR_CONFIGS:
        return small_model(PILLAR_CONFIGS[name]()), make_batch(SCENES)
    if name == "PointRCNN":
        return small_point_rcnn(), point_batch(SCENES)
    return small_second(TWO_STAGE_CONFIGS[name]()), second_batch(SCENES)


def heads_of(model: Detector3DTemplate) -> dict[str, DetectionHead]:
    """The heads of a detector by their slots."""
    heads = {}
    for name, module in model.named_slots():
        if isinstance(module, DetectionHead):
            heads[name] = module
    return heads


def class_logits(head: DetectionHead) -> list[Tensor]:
    """The class logits that the losses of a head use, after a forward pass in training."""
    kept = head.forward_ret_dict
    if "pred_dicts" in kept:
        return [prediction["hm"] for prediction in kept["pred_dicts"]]
    for key in ("cls_preds", "point_cls_preds", "rcnn_cls"):
        if key in kept:
            return kept[key] if isinstance(kept[key], list) else [kept[key]]
    return []


def sorted_values(tensors: list[Tensor]) -> list[float]:
    """All numbers in some tensors, whatever their order there."""
    values = []
    for tensor in tensors:
        values += tensor.detach().flatten().tolist()
    return sorted(values)


def test_every_head_describes_itself() -> None:
    for table in (DENSE_HEADS, POINT_HEADS, ROI_HEADS):
        for head_class in table.values():
            assert issubclass(head_class, DetectionHead)


@pytest.mark.parametrize("name", ALL_NAMES)
def test_score_taps_give_the_class_logits_of_the_loss(name: str) -> None:
    model, batch = detector_and_batch(name)
    heads = heads_of(model)
    paths = model.score_taps()
    expected_paths = []
    for slot, head in heads.items():
        expected_paths += [f"{slot}.{path}" for path in head.score_taps()]
    assert sorted(paths) == sorted(expected_paths)
    with model.train().capture(paths) as features:
        model(batch)
    for slot, head in heads.items():
        tapped = [features[f"{slot}.{path}"] for path in head.score_taps()]
        assert sorted_values(tapped) == sorted_values(class_logits(head))


def test_score_taps_of_separate_branches() -> None:
    model = small_model(separate_branches_config())
    batch = make_batch(SCENES)
    with model.train().capture(model.score_taps()) as features:
        model(batch)
    assert len(features) == len(CLASS_NAMES)
    assert sorted_values(list(features.values())) == sorted_values(class_logits(model.dense_head))


# Heads of a first stage that predict no boxes.
WITHOUT_BOXES = {
    ("PVRCNN", "point_head"),
    ("PVRCNNPlusPlus", "point_head"),
    ("PartA2Net", "point_head"),
}


def test_a_foreign_head_publishes_no_score_taps() -> None:
    model = small_model()
    model.dense_head = torch.nn.Identity()
    assert model.score_taps() == []


@pytest.mark.parametrize("name", ALL_NAMES)
def test_modules_of_a_layout_exist(name: str) -> None:
    model, _ = detector_and_batch(name)
    for slot, head in heads_of(model).items():
        layout = head.prediction_layout()
        if layout is None:
            assert slot == "roi_head" or (name, slot) in WITHOUT_BOXES
            continue
        assert layout.num_class == head.num_class
        modules = dict(head.named_modules())
        assert layout.modules
        assert set(layout.modules) <= set(modules)


@pytest.mark.parametrize("config", [model_config, multi_model_config])
def test_an_anchor_layout_has_the_class_of_every_anchor(config) -> None:
    head = small_model(config()).dense_head
    layout = head.prediction_layout()
    assert layout.class_names == tuple(CLASS_NAMES)
    assert layout.anchor_classes.shape == (len(layout.anchors),)
    for number, grid in enumerate(head.anchors):
        of_class = layout.anchors[layout.anchor_classes == number]
        assert len(of_class) == grid[..., 0].numel()
        sizes = of_class[:, 3:6].unique(dim=0)
        first_anchor = grid[0, 0, 0, 0, :1]
        assert torch.equal(sizes, first_anchor[:, 3:6])


def test_a_multi_head_layout_has_the_labels_of_every_column() -> None:
    separate = small_model(multi_model_config()).dense_head.prediction_layout()
    assert separate.head_labels == ((1,), (2,), (3,))


def test_heads_that_predict_all_classes_have_the_labels_of_all() -> None:
    config = multi_model_config()
    config.DENSE_HEAD.SEPARATE_MULTIHEAD = False
    together = small_model(config).dense_head.prediction_layout()
    assert together.head_labels == ((1, 2, 3),) * 3


def test_a_direction_classifier_has_two_bins() -> None:
    layout = small_model(model_config()).dense_head.prediction_layout()
    assert layout.directions.count == 2


def test_without_a_direction_classifier_there_are_no_directions() -> None:
    config = model_config()
    config.DENSE_HEAD.USE_DIRECTION_CLASSIFIER = False
    layout = small_model(config).dense_head.prediction_layout()
    assert layout.directions is None
    assert layout.modules == ("conv_cls", "conv_box")


def test_centers_are_decoded_as_they_were_encoded() -> None:
    boxes = torch.tensor([[10.2, -3.1, -1.0, 3.9, 1.6, 1.5, 2.5, 0.3, -0.2]])
    cell_size_m = (0.8, 0.4)
    origin_m = (0.0, -40.0)
    places = (boxes[:, :2] - torch.tensor(origin_m)) / torch.tensor(cell_size_m)
    corners = places.floor()
    codes = encode_centers(boxes, places - corners)
    decoded = decode_centers(codes, corners, cell_size_m=cell_size_m, origin_m=origin_m)
    torch.testing.assert_close(decoded, boxes)
