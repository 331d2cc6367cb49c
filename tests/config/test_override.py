"""``--set KEY VALUE``: the value it gives, and the message for a pair that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from pcdet_distill.config import load_config, to_plain
from pcdet_distill.errors import ConfigError


@pytest.fixture
def cfgs(repo: Path) -> Path:
    return repo / "cfgs"


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("OPTIMIZATION.LR", "0.01", 0.01),
        ("OPTIMIZATION.LR", "1", 1.0),
        ("OPTIMIZATION.NUM_EPOCHS", "3", 3),
        ("MODEL.VFE.NAME", "MeanVFE", "MeanVFE"),
        ("MODEL.DENSE_HEAD.USE_DIRECTION_CLASSIFIER", "False", False),
        ("MODEL.DENSE_HEAD.USE_DIRECTION_CLASSIFIER", "false", False),
        ("MODEL.VFE.NUM_FILTERS", "32,16", [32, 16]),
        ("MODEL.VFE.NUM_FILTERS", "32", [32]),
        ("MODEL.VFE.NUM_FILTERS", "[8]", [8]),
        ("CLASS_NAMES", "Car,Pedestrian", ["Car", "Pedestrian"]),
        ("CLASS_NAMES", "[Car, Pedestrian]", ["Car", "Pedestrian"]),
        ("CLASS_NAMES", "[Car]", ["Car"]),
        ("OPTIMIZATION.MOMS", "1,0.5", [1.0, 0.5]),
        (
            "DATA_CONFIG.POINT_CLOUD_RANGE",
            "0,-6.4,-3,12.8,6.4,1",
            [0.0, -6.4, -3.0, 12.8, 6.4, 1.0],
        ),
        ("DATA_CONFIG.DATA_SPLIT", "train:trainval,test:val", {"train": "trainval", "test": "val"}),
        ("DATA_CONFIG.DATA_SPLIT", "train:trainval", {"train": "trainval", "test": "val"}),
        ("DATA_CONFIG.DATA_PATH", "/data/kitti", "/data/kitti"),
        ("DATA_CONFIG.DATA_SPLIT.train", "2024", "2024"),
        ("DATA_CONFIG.DATA_AUGMENTOR.AUG_CONFIG_LIST.0.USE_ROAD_PLANE", "False", False),
        ("MODEL.BN_MOMENTUM", "0.1", 0.1),
        ("OPTIMIZATION.USE_AMP", "True", True),
        ("DISTILL.TERMS.LOCAL_GRAPH.WEIGHT", "2.5", 2.5),
        ("DISTILL.TERMS.LOCAL_GRAPH.WEIGHT", "SHARE:0.4", {"SHARE": 0.4}),
        ("DISTILL.TERMS.LOCAL_GRAPH.WEIGHT", "START:1,END:0.5", {"START": 1, "END": 0.5}),
        ("DISTILL.TERMS.LOCAL_GRAPH.WEIGHT.EVERY", "20", 20),
        ("DISTILL.TEACHER.CKPT", "t.pth", "t.pth"),
        ("DISTILL.TERMS.MINE.NAME", "GraphDistillLoss", "GraphDistillLoss"),
    ],
)
def test_set(cfgs, path, text, value):
    cfg = load_config(cfgs / "kitti_distill" / "pointpillar_4x_pointdistiller.yaml", [path, text])
    place = cfg
    for key in path.split("."):
        place = place[int(key)] if isinstance(place, list) else place[key]
    assert place == value
    assert type(to_plain(place)) is type(value)


def test_a_number_as_weight_may_become_a_block(cfgs):
    key = "DISTILL.TERMS.LOGIT_BOX.WEIGHT"
    file = cfgs / "kitti_distill" / "pointpillar_4x_logitbox.yaml"
    cfg = load_config(file, [key, "SHARE:0.2,EVERY:20"])
    assert to_plain(cfg.DISTILL.TERMS.LOGIT_BOX.WEIGHT) == {"SHARE": 0.2, "EVERY": 20}
    with pytest.raises(ConfigError, match="LOGIT_BOX.WEIGHT much: expected a block, written as"):
        load_config(file, [key, "much"])


def test_set_takes_values_that_are_no_text(cfgs):
    overrides = ["OPTIMIZATION.LR", 0.5, "MODEL.VFE.NUM_FILTERS", [4]]
    cfg = load_config(cfgs / "kitti_models" / "pointpillar.yaml", overrides)
    assert cfg.OPTIMIZATION.LR == 0.5
    assert cfg.MODEL.VFE.NUM_FILTERS == [4]


@pytest.mark.parametrize(
    ("overrides", "answer"),
    [
        (
            ["OPTIMIZATION.LRR", "1"],
            "--set OPTIMIZATION.LRR: unknown key 'LRR'; did you mean 'LR'?",
        ),
        (
            ["MODEL.BACKBONE_2.LAYER_NUMS", "1"],
            "--set MODEL.BACKBONE_2.LAYER_NUMS: unknown key 'BACKBONE_2'; "
            "did you mean 'BACKBONE_2D'?",
        ),
        (["OPTIMIZATION.LR"], "--set takes pairs of KEY VALUE, but OPTIMIZATION.LR has no value"),
        (
            ["OPTIMIZATION.LR", "0.1", "--extra_tag", "mine"],
            "--set takes the rest of the line as pairs of KEY VALUE; write --extra_tag before "
            "--set",
        ),
        (
            ["OPTIMIZATION.LR", "fast"],
            "--set OPTIMIZATION.LR fast: expected float as in 0.003, got str",
        ),
        (
            ["OPTIMIZATION.NUM_EPOCHS", "1.5"],
            "--set OPTIMIZATION.NUM_EPOCHS 1.5: expected int as in 80, got float",
        ),
        (
            ["OPTIMIZATION.LR_WARMUP", "1"],
            "--set OPTIMIZATION.LR_WARMUP 1: expected bool as in False, got int",
        ),
        (
            ["OPTIMIZATION.NUM_EPOCHS", "True"],
            "--set OPTIMIZATION.NUM_EPOCHS True: expected int as in 80, got bool",
        ),
        (
            ["MODEL.VFE.NUM_FILTERS", "a,b"],
            "--set MODEL.VFE.NUM_FILTERS a: expected int as in 64, got str",
        ),
        (
            ["DATA_CONFIG.DATA_SPLIT", "tran:x"],
            "--set DATA_CONFIG.DATA_SPLIT: unknown key 'tran'; did you mean 'train'?",
        ),
        (
            ["DATA_CONFIG.DATA_SPLIT", "x"],
            "--set DATA_CONFIG.DATA_SPLIT x: expected a block, written as key1:value1,key2:value2",
        ),
        (
            ["OPTIMIZATION.LR.X", "1"],
            "--set OPTIMIZATION.LR.X: there is no key 'X', what stands there is 0.003",
        ),
        (
            ["DATA_CONFIG.DATA_PROCESSOR.9.NAME", "x"],
            "--set DATA_CONFIG.DATA_PROCESSOR.9.NAME: '9' is not an item of a list of 3",
        ),
        (
            ["MODEL.VFE.NAME", "PilarVFE"],
            "--set: MODEL.VFE.NAME: unknown name 'PilarVFE'; did you mean 'PillarVFE'?",
        ),
    ],
)
def test_set_refuses(cfgs, overrides, answer):
    with pytest.raises(ConfigError) as caught:
        load_config(cfgs / "kitti_models" / "pointpillar.yaml", overrides)
    assert str(caught.value) == answer


@pytest.mark.parametrize("key", ["DATA_PATH", "DATA_CONFIG.DATA_PATH"])
@pytest.mark.parametrize("file", ["dataset_configs/kitti_dataset", "kitti_models/second"])
def test_a_key_of_the_data_may_be_written_with_its_block_or_without(cfgs, file, key):
    cfg = load_config(cfgs / f"{file}.yaml", [key, "/data/mine"])
    data_config = cfg.get("DATA_CONFIG", cfg)
    assert data_config.DATA_PATH == "/data/mine"
    assert cfg.get("DATA_CONFIG", {}).get("DATA_CONFIG") is None


def test_a_key_of_both_is_the_experiments(cfgs):
    cfg = load_config(cfgs / "kitti_models" / "second.yaml", ["CLASS_NAMES", "Car"])
    assert cfg.CLASS_NAMES == ["Car"]
    assert "CLASS_NAMES" not in cfg.DATA_CONFIG


def test_a_whole_number_that_no_float_holds_is_refused(cfgs: Path) -> None:
    with pytest.raises(
        ConfigError, match="OPTIMIZATION.LR 1000.*: expected float as in .*, got str"
    ):
        load_config(
            cfgs / "kitti_models" / "pointpillar.yaml", ["OPTIMIZATION.LR", "1" + "0" * 400]
        )
