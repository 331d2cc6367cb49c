"""CenterPoint on pillars and on voxels: training, final boxes, recall, taps."""

from __future__ import annotations

import pytest
import torch
from odd_batches import NOTHING
from short_training import check_overfits_one_scene, losses_of_a_few_steps
from small_center import center_config, voxel_config
from small_model import make_batch, random_scene, small_model
from small_second import second_batch, small_second

from pcdet_distill.errors import ConfigError
from pcdet_distill.models.detectors.post_processing import post_process


def test_names_in_the_log() -> None:
    model = small_model(center_config([["Car"], ["Pedestrian", "Cyclist"]])).train()
    ret, tb_dict, _ = model(make_batch([random_scene(0)]))
    assert list(tb_dict) == [
        "loss_rpn",
        "hm_loss_head_0",
        "loc_loss_head_0",
        "hm_loss_head_1",
        "loc_loss_head_1",
        "rpn_loss",
    ]
    assert tb_dict["loss_rpn"] == ret["loss"].detach()


def test_boxes_of_the_head_are_final_and_counted() -> None:
    box = [3.0, 0, 0, 4, 2, 1, 0]
    far_away = [30.0, 0, 0, 4, 2, 1, 0]
    final = {
        "pred_boxes": torch.tensor([box]),
        "pred_scores": torch.tensor([0.2]),
        "pred_labels": torch.tensor([2]),
    }
    batch = {
        "batch_size": 1,
        "final_box_dicts": [final],
        "gt_boxes": torch.tensor([[[*box, 1], [*far_away, 1]]]),
    }
    found, recall = post_process(batch, {"RECALL_THRESH_LIST": [0.3]}, num_class=3)
    assert found == [final]
    assert recall == {"gt": 2, "roi_0.3": 0, "rcnn_0.3": 1}


def test_a_frame_does_not_depend_on_the_others_in_eval() -> None:
    model = small_model(center_config()).eval()
    with torch.no_grad():
        (alone,), _ = model(make_batch([random_scene(1)]))
        together, _ = model(make_batch([random_scene(0), random_scene(1), NOTHING]))
    expected = alone["pred_boxes"]
    found = together[1]["pred_boxes"]
    assert len(expected) > 0
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_taps_have_the_channels_and_strides_they_publish() -> None:
    model = small_model(center_config()).eval()
    taps = model.taps()
    assert "dense_head.shared_conv" in taps
    assert "dense_head.heads_list.0.hm" in taps
    assert "dense_head.heads_list.0.rot" in taps
    with torch.no_grad(), model.capture(list(taps)) as features:
        model(make_batch([random_scene(0)]))
    for path, info in taps.items():
        shape = features[path].shape
        assert shape[1] == info.channels, path
        if info.kind == "bev":
            cells = 32 // info.stride
            assert shape[2:] == (cells, cells), path


@pytest.mark.parametrize("block", ["VFE", "MAP_TO_BEV", "BACKBONE_2D", "DENSE_HEAD"])
def test_missing_blocks_are_named(block: str) -> None:
    config = center_config()
    del config[block]
    with pytest.raises(ConfigError, match=f"MODEL.{block} is missing"):
        small_model(config)


def test_a_few_steps_on_pillars_decrease_the_loss() -> None:
    model = small_model(center_config()).train()
    batch = make_batch([random_scene(0), random_scene(1)])
    losses = losses_of_a_few_steps(model, batch)
    assert losses[-1] < 0.8 * losses[0]


def test_a_few_steps_on_voxels_decrease_the_loss() -> None:
    model = small_second(voxel_config()).train()
    batch = second_batch([random_scene(0), random_scene(1)])
    losses = losses_of_a_few_steps(model, batch)
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.slow
def test_overfits_one_scene() -> None:
    config = center_config([["Car"], ["Pedestrian", "Cyclist"]])
    config.BN_MOMENTUM = 0.1
    config.DENSE_HEAD.SHARED_CONV_CHANNEL = 16
    model = small_model(config).train()
    check_overfits_one_scene(model)
