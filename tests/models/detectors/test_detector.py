"""The whole detector: building, slots, taps, odd frames, training."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from odd_batches import NOTHING
from short_training import check_overfits_one_scene, losses_of_a_few_steps
from small_model import CLASS_NAMES, make_batch, model_config, random_scene, small_model, small_spec
from torch import nn

from pcdet_distill.errors import CheckpointError, ConfigError
from pcdet_distill.models import build_network, load_data_to_device
from pcdet_distill.models.backbones_2d import BACKBONES_2D, BaseBEVBackbone
from pcdet_distill.types import BatchDict, ConfigDict


def test_a_frame_does_not_depend_on_the_others_in_eval() -> None:
    model = small_model().eval()
    model.dense_head.conv_cls.bias.data.fill_(-1.0)
    with torch.no_grad():
        alone, _ = model(make_batch([random_scene(1)]))
        together, _ = model(make_batch([random_scene(0), random_scene(1), NOTHING]))
    assert len(alone[0]["pred_boxes"]) > 0
    torch.testing.assert_close(
        together[1]["pred_boxes"], alone[0]["pred_boxes"], rtol=1e-4, atol=1e-4
    )


def test_eval_leaves_the_model_unchanged() -> None:
    model = small_model().eval()
    before = copy.deepcopy(model.state_dict())
    model(make_batch([random_scene(0)]))
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


# --- Slots


def test_slots_and_their_order() -> None:
    model = small_model()
    names = [name for name, _ in model.named_slots()]
    assert names == ["vfe", "map_to_bev_module", "backbone_2d", "dense_head"]
    assert model.module_list == [
        model.vfe,
        model.map_to_bev_module,
        model.backbone_2d,
        model.dense_head,
    ]
    assert model.backbone_3d is None
    assert model.pfe is None
    assert model.point_head is None
    assert model.roi_head is None


def test_run_modules_stops_after_the_named_slot() -> None:
    model = small_model()
    batch = make_batch([random_scene(0)])
    found = model.run_modules(batch, until="map_to_bev_module")
    assert "spatial_features" in found
    assert "spatial_features_2d" not in found


def test_an_unknown_slot_is_named() -> None:
    model = small_model()
    batch = make_batch([random_scene(0)])
    with pytest.raises(ConfigError, match="no slot 'backbone2d'; did you mean 'backbone_2d'"):
        model.run_modules(batch, until="backbone2d")


# --- Taps


def test_taps_have_the_channels_and_strides_they_publish() -> None:
    model = small_model().eval()
    batch = make_batch([random_scene(0), random_scene(1)])
    taps = model.taps()
    assert {
        "vfe@pillar_features",
        "map_to_bev_module@spatial_features",
        "backbone_2d.blocks.0",
        "backbone_2d.blocks.1",
        "backbone_2d@spatial_features_2d",
    } <= set(taps)
    with torch.no_grad(), model.capture(list(taps)) as features:
        model(batch)
    for path, info in taps.items():
        feature = features[path]
        assert feature.shape[1] == info.channels, path
        if info.kind == "bev":
            assert feature.shape[2:] == (32 // info.stride, 32 // info.stride), path
        else:
            assert info.kind == "voxel"
            assert len(feature) == len(batch["voxel_coords"])
            assert info.stride == 1


def test_taps_can_be_captured_in_training() -> None:
    """No slot changes the output of another in place."""
    model = small_model().train()
    with model.capture(list(model.taps())) as features:
        ret_dict, _, _ = model(make_batch([random_scene(0)]))
        ret_dict["loss"].backward()
    assert set(features) == set(model.taps())


def test_strides_of_taps_add_up_over_the_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model()
    monkeypatch.setattr(model.map_to_bev_module, "output_stride", 8, raising=False)
    taps = model.taps()
    # The stride of a slot counts for the slots behind it.
    assert taps["map_to_bev_module@spatial_features"].stride == 1
    assert taps["backbone_2d.blocks.1"].stride == 32
    assert taps["backbone_2d@spatial_features_2d"].stride == 16


# --- Settings


def test_class_agnostic_by_config() -> None:
    config = model_config()
    config.DENSE_HEAD.CLASS_AGNOSTIC = True
    model = small_model(config)
    batch = make_batch([random_scene(0)])
    assert model.dense_head.conv_cls.out_channels == 6
    ret_dict, _, _ = model.train()(dict(batch))
    ret_dict["loss"].backward()
    (found,), _ = model.eval()(dict(batch))
    assert (found["pred_labels"] == 1).all()


def test_the_global_step_is_a_number_of_the_state() -> None:
    model = small_model()
    assert model.global_step.tolist() == [0]
    assert model.state_dict()["global_step"].dtype == torch.long
    model.update_global_step()
    assert model.global_step.tolist() == [1]


def test_modes_have_the_names_of_openpcdet() -> None:
    model = small_model()
    assert model.mode == "TRAIN"
    assert model.eval().mode == "TEST"


def model_with_momentum(momentum: object) -> nn.Module:
    """A detector with this BN_MOMENTUM."""
    config = model_config()
    config.BN_MOMENTUM = momentum
    return small_model(config)


@pytest.mark.parametrize(("settings", "expected"), [({}, 0.01), ({"BN_MOMENTUM": 0.1}, 0.1)])
def test_every_batch_norm_has_the_momentum_of_the_config(
    settings: dict[str, float], expected: float
) -> None:
    config = model_config()
    config.update(settings)
    norms = []
    for module in small_model(config).modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            norms.append(module)
    assert len(norms) == 7
    assert {norm.momentum for norm in norms} == {expected}


def running_means_after_a_step(momentum: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Of a batch norm of pillars and one of maps, which both start at zero."""
    model = model_with_momentum(momentum).train()
    model(make_batch([random_scene(0)]))
    of_pillars = model.vfe.pfn_layers[0].norm
    of_maps = model.backbone_2d.blocks[0][2]
    return of_pillars.running_mean, of_maps.running_mean


def test_batch_norm_momentum_acts_on_running_statistics() -> None:
    slow = running_means_after_a_step(0.01)
    fast = running_means_after_a_step(0.5)
    for slow_mean, fast_mean in zip(slow, fast):
        torch.testing.assert_close(fast_mean, slow_mean * 50)


@pytest.mark.parametrize("value", [0, 1.5, "0.1", True])
def test_batch_norm_momentum_must_be_between_zero_and_one(value: object) -> None:
    with pytest.raises(ConfigError, match="MODEL.BN_MOMENTUM"):
        model_with_momentum(value)


def test_a_misspelt_detector_gets_a_hint() -> None:
    config = model_config()
    config.NAME = "PointPilar"
    message = "MODEL.NAME: unknown name 'PointPilar'; did you mean 'PointPillar'"
    with pytest.raises(ConfigError, match=message):
        small_model(config)


def test_a_misspelt_slot_gets_a_hint() -> None:
    config = model_config()
    config.BACKBONE_2D.NAME = "BaseBevBackbon"
    message = "MODEL.BACKBONE_2D.NAME: .*did you mean 'BaseBEVBackbone'"
    with pytest.raises(ConfigError, match=message):
        small_model(config)


def test_a_class_that_resembles_none_gets_no_hint() -> None:
    config = model_config()
    config.BACKBONE_3D = {"NAME": "NoSuchBackbone"}
    with pytest.raises(ConfigError, match="MODEL.BACKBONE_3D.NAME: unknown name 'NoSuchBackbone'"):
        small_model(config)


@pytest.mark.parametrize("block", ["VFE", "MAP_TO_BEV", "BACKBONE_2D", "DENSE_HEAD"])
def test_missing_blocks_are_named(block: str) -> None:
    config = model_config()
    del config[block]
    with pytest.raises(ConfigError, match=f"MODEL.{block} is missing"):
        small_model(config)


def test_widths_that_do_not_meet_are_explained() -> None:
    config = model_config()
    config.VFE.NUM_FILTERS = [6]
    with pytest.raises(ConfigError, match="NUM_BEV_FEATURES is 8, but MODEL.VFE outputs 6"):
        small_model(config)


class Wider(BaseBEVBackbone):
    """A backbone as another library would write it, with one convolution more."""

    def __init__(self, model_cfg: ConfigDict, input_channels: int) -> None:
        super().__init__(model_cfg=model_cfg, input_channels=input_channels)
        self.extra = nn.Conv2d(self.num_bev_features, 5, 1)
        self.num_bev_features = 5

    def forward(self, data_dict: BatchDict) -> BatchDict:
        """Five channels in place of those of the backbone."""
        data_dict = super().forward(data_dict)
        data_dict["spatial_features_2d"] = self.extra(data_dict["spatial_features_2d"])
        return data_dict


def test_a_slot_module_of_another_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKBONES_2D, "Wider", Wider)
    config = model_config()
    config.BACKBONE_2D.NAME = "Wider"
    model = small_model(config)
    assert model.dense_head.conv_cls.in_channels == 5
    ret_dict, _, _ = model(make_batch([random_scene(0)]))
    ret_dict["loss"].backward()


def test_a_model_without_heads_has_nothing_to_train() -> None:
    model = small_model()
    model.dense_head = None
    message = "holds none of DENSE_HEAD, .*, so there is nothing to train"
    with pytest.raises(ConfigError, match=message):
        model.get_training_loss()


# --- Checkpoints


def test_a_loaded_checkpoint_gives_the_same_weights() -> None:
    one = small_model(seed=0)
    other = small_model(seed=1)
    report = other.load_checkpoint_state(one.checkpoint_state(), where="memory")
    assert not report.missing
    assert not report.mismatched
    expected = one.state_dict()
    for key, value in other.state_dict().items():
        assert torch.equal(value, expected[key]), key


def test_a_checkpoint_of_other_widths_is_refused() -> None:
    state = small_model(model_config(width=6)).checkpoint_state()
    with pytest.raises(CheckpointError, match="memory"):
        small_model().load_checkpoint_state(state, where="memory")


def test_a_checkpoint_without_weights_is_refused() -> None:
    with pytest.raises(CheckpointError, match="no 'model_state'"):
        small_model().load_checkpoint_state({"epoch": 1}, where="memory")


def test_widths_change_the_parameters_by_their_square() -> None:
    def count_parameters(width: int) -> int:
        model = small_model(model_config(width))
        return sum(parameter.numel() for parameter in model.parameters())

    whole = count_parameters(64)
    half = count_parameters(32)
    quarter = count_parameters(16)
    assert whole / half == pytest.approx(4, rel=0.08)
    assert whole / quarter == pytest.approx(16, rel=0.2)


def test_arrays_become_tensors_and_other_values_stay() -> None:
    batch = {
        "voxel_coords": np.array([[0, 0, 3, 4]], np.int32),
        "points": np.zeros((2, 5)),
        "batch_size": 1,
        "image_shape": np.array([[375, 1242]]),
        "use_lead_xyz": np.array([True]),
        "calib": [object()],
        "frame_id": np.array(["000001"]),
        "gt_boxes": torch.zeros(1, 1, 8),
    }
    calib = batch["calib"]
    assert load_data_to_device(batch, "cpu") is None
    dtypes = {}
    for key, value in batch.items():
        if isinstance(value, torch.Tensor):
            dtypes[key] = value.dtype
    assert dtypes == {
        "voxel_coords": torch.float32,
        "points": torch.float32,
        "image_shape": torch.int32,
        "use_lead_xyz": torch.float32,
        "gt_boxes": torch.float32,
    }
    assert batch["batch_size"] == 1
    assert batch["calib"] is calib
    assert batch["frame_id"][0] == "000001"


def test_a_spec_is_enough_to_build() -> None:
    model = build_network(model_config(), len(CLASS_NAMES), small_spec())
    assert model.class_names == CLASS_NAMES


def test_mixed_precision_stays_close() -> None:
    model = small_model().train()
    batch = make_batch([random_scene(0)])
    exact, _, _ = model(dict(batch))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, _, _ = model(dict(batch))
    found["loss"].backward()
    assert found["loss"].dtype == torch.float32
    assert found["loss"].item() == pytest.approx(exact["loss"].item(), rel=0.05)


# --- Learning


def test_a_few_steps_decrease_the_loss() -> None:
    model = small_model().train()
    batch = make_batch([random_scene(0), random_scene(1)])
    losses = losses_of_a_few_steps(model, batch)
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.slow
def test_overfits_one_scene() -> None:
    config = model_config(width=16)
    config.BN_MOMENTUM = 0.1
    model = small_model(config).train()
    check_overfits_one_scene(model)
