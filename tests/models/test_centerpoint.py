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
    box = torch.tensor([[3.0, 0, 0, 4, 2, 1, 0]])
    final = {
        "pred_boxes": box,
        "pred_scores": torch.tensor([0.2]),
        "pred_labels": torch.tensor([2]),
    }
    batch = {
        "batch_size": 1,
        "final_box_dicts": [final],
        "gt_boxes": torch.tensor([[[3.0, 0, 0, 4, 2, 1, 0, 1], [30, 0, 0, 4, 2, 1, 0, 1]]]),
    }
    found, recall = post_process(batch, {"RECALL_THRESH_LIST": [0.3]}, num_class=3)
    assert found == [final]
    assert recall == {"gt": 2, "roi_0.3": 0, "rcnn_0.3": 1}


def test_a_frame_does_not_depend_on_the_others_in_eval() -> None:
    model = small_model(center_config()).eval()
    with torch.no_grad():
        alone, _ = model(make_batch([random_scene(1)]))
        together, _ = model(make_batch([random_scene(0), random_scene(1), NOTHING]))
    assert len(alone[0]["pred_boxes"]) > 0
    torch.testing.assert_close(
        together[1]["pred_boxes"], alone[0]["pred_boxes"], rtol=1e-4, atol=1e-4
    )


def test_taps_have_the_channels_and_strides_they_publish() -> None:
    model = small_model(center_config()).eval()
    batch = make_batch([random_scene(0)])
    taps = model.taps()
    assert {
        "dense_head.shared_conv",
        "dense_head.heads_list.0.hm",
        "dense_head.heads_list.0.rot",
    } <= set(taps)
    with torch.no_grad(), model.capture(list(taps)) as features:
        model(batch)
    for path, info in taps.items():
        assert features[path].shape[1] == info.channels, path
        if info.kind == "bev":
            assert features[path].shape[2:] == (32 // info.stride, 32 // info.stride), path


@pytest.mark.parametrize("block", ["VFE", "MAP_TO_BEV", "BACKBONE_2D", "DENSE_HEAD"])
def test_missing_blocks_are_named(block: str) -> None:
    config = center_config()
    del config[block]
    with pytest.raises(ConfigError, match=f"MODEL.{block} is missing"):
        small_model(config)


@pytest.mark.parametrize("voxels", [False, True], ids=["pillars", "voxels"])
def test_a_few_steps_decrease_the_loss(voxels: bool) -> None:
    scenes = [random_scene(0), random_scene(1)]
    model = small_second(voxel_config()).train() if voxels else small_model(center_config()).train()
    batch = second_batch(scenes) if voxels else make_batch(scenes)
    losses = losses_of_a_few_steps(model, batch)
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.slow
def test_overfits_one_scene() -> None:
    config = center_config([["Car"], ["Pedestrian", "Cyclist"]])
    config.BN_MOMENTUM = 0.1
    config.DENSE_HEAD.SHARED_CONV_CHANNEL = 16
    model = small_model(config).train()
    check_overfits_one_scene(model)
