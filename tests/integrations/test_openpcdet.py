"""Two lines in OpenPCDet's train.py, tried on a stand-in for it: see stand_in/pcdet.

``train`` and ``test`` below do what OpenPCDet's tools of these names do with a model, and no more.
"""

from __future__ import annotations

import copy
import logging
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from easydict import EasyDict
from small_model import model_config
from torch import nn

from pcdet_distill.checkpoint import load_checkpoint
from pcdet_distill.datasets import DataSpec
from pcdet_distill.distill import BATCH_TRANSFORMS, DISTILL_LOSSES, PredictionLoss, Teacher
from pcdet_distill.errors import CheckpointError, ConfigError
from pcdet_distill.integrations.openpcdet import OpenPCDetDistiller, distill_openpcdet
from pcdet_distill.models import build_network

CLASSES = ["Car", "Pedestrian", "Cyclist"]
SIZES = {"Car": [3.9, 1.6, 1.5], "Pedestrian": [0.8, 0.6, 1.7], "Cyclist": [1.8, 0.6, 1.7]}
LIMITS, VOXEL = [0.0, -4.0, -3.0, 8.0, 4.0, 1.0], [0.5, 0.5, 4.0]
FEATURES = ["x", "y", "z", "intensity"]
DATA = {
    "POINT_CLOUD_RANGE": LIMITS,
    "POINT_FEATURE_ENCODING": {
        "encoding_type": "absolute_coordinates_encoding",
        "used_feature_list": FEATURES,
        "src_feature_list": FEATURES,
    },
    "DATA_PROCESSOR": [
        {
            "NAME": "transform_points_to_voxels",
            "VOXEL_SIZE": VOXEL,
            "MAX_POINTS_PER_VOXEL": 5,
            "MAX_NUMBER_OF_VOXELS": {"train": 100, "test": 100},
        }
    ],
}
PILLARS = {
    "NAME": "GraphDistillLoss",
    "STUDENT": "vfe@pillar_features",
    "TEACHER": "vfe@pillar_features",
    "NUM_NODES": 20,
    "NUM_NEIGHBORS": 4,
    "EMBED_DIM": 8,
}
MAPS = {
    **PILLARS,
    "STUDENT": "backbone_2d@spatial_features_2d",
    "TEACHER": "backbone_2d@spatial_features_2d",
}
LOG = logging.getLogger("test_openpcdet")


@pytest.fixture(autouse=True)
def pcdet(monkeypatch):
    """The stand-in, importable as pcdet."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "stand_in"))
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "pcdet"]:
        del sys.modules[name]


class TrainSet:
    """Eight frames of random pillars, in which the intensity of a pillar with an object is its label."""

    def __init__(self, voxel_size=VOXEL, class_names=CLASSES, seed=0):
        self.class_names, self.voxel_size = list(class_names), voxel_size
        self.point_cloud_range = np.array(LIMITS, np.float32)
        self.grid_size = np.round(
            (self.point_cloud_range[3:] - self.point_cloud_range[:3]) / voxel_size
        ).astype(int)
        self.point_feature_encoder = SimpleNamespace(
            num_point_features=4, used_feature_list=FEATURES
        )
        self.depth_downsample_factor, self.seed = None, seed

    def __len__(self):
        return 8

    def __getitem__(self, index):
        random = np.random.RandomState(self.seed + index)
        nx, ny, nz = self.grid_size
        cells = random.permutation(nx * ny * nz)[:60]
        coords = np.stack([cells // (nx * ny), cells // nx % ny, cells % nx], axis=1)
        centre = (coords[:, ::-1] + 0.5) * self.voxel_size + self.point_cloud_range[:3]
        label = np.where(np.arange(60) < 9, np.arange(60) % 3 + 1, 0)
        points = (
            np.concatenate([centre, label[:, None]], axis=1)[:, None]
            .repeat(5, axis=1)
            .astype(np.float32)
        )
        sizes = np.array([SIZES[CLASSES[number - 1]] for number in label[:9]])
        boxes = [centre[:9, :2], np.full((9, 1), -1.0), sizes, np.zeros((9, 1)), label[:9, None]]
        return {
            "voxels": points,
            "voxel_coords": coords,
            "voxel_num_points": np.full(60, 5),
            "points": points[:, 0],
            "gt_boxes": np.concatenate(boxes, axis=1).astype(np.float32),
            "frame_id": f"{index:06d}",
        }

    @staticmethod
    def collate_batch(items):
        batch = {
            "batch_size": len(items),
            "frame_id": np.array([item["frame_id"] for item in items]),
            "gt_boxes": np.stack([item["gt_boxes"] for item in items]),
        }
        for key in ("voxels", "voxel_num_points"):
            batch[key] = np.concatenate([item[key] for item in items])
        for key in ("voxel_coords", "points"):
            batch[key] = np.concatenate(
                [
                    np.pad(item[key], ((0, 0), (1, 0)), constant_values=number)
                    for number, item in enumerate(items)
                ]
            )
        return batch


def model_cfg(width, name="PointPillar"):
    head = {
        "NAME": "AnchorHeadSingle",
        "STRIDE": 2,
        "CELL": 1.0,
        "ORIGIN": [0.0, -4.0],
        "ANCHOR_GENERATOR_CONFIG": [
            {"class_name": key, "anchor_sizes": [size]} for key, size in SIZES.items()
        ],
    }
    slots = {
        "VFE": {"NAME": "PillarVFE", "NUM_FILTERS": [width]},
        "MAP_TO_BEV": {"NAME": "PointPillarScatter"},
    }
    stride = 2
    if name == "SECONDNet":
        slots = {
            "VFE": {"NAME": "MeanVFE"},
            "BACKBONE_3D": {"NAME": "VoxelBackBone8x", "CHANNELS": width},
            "MAP_TO_BEV": {"NAME": "HeightCompression"},
        }
        stride = 1
    return {
        "NAME": name,
        **slots,
        "DENSE_HEAD": head,
        "POST_PROCESSING": {"SCORE_THRESH": 0.5},
        "BACKBONE_2D": {
            "NAME": "BaseBEVBackbone",
            "NUM_FILTERS": [2 * width],
            "LAYER_STRIDES": [stride],
        },
    }


def config(tmp_path, terms, width=4, teacher_width=6, name="PointPillar", data=DATA, **teacher):
    """A student's config with a DISTILL block; its teacher's yaml lies in ``tmp_path``."""
    file = tmp_path / "teacher.yaml"
    file.write_text(
        yaml.safe_dump(
            {"CLASS_NAMES": CLASSES, "DATA_CONFIG": data, "MODEL": model_cfg(teacher_width, name)}
        )
    )
    return EasyDict(
        CLASS_NAMES=CLASSES,
        DATA_CONFIG=DATA,
        MODEL=model_cfg(width, name),
        DISTILL={"TEACHER": {"CFG_FILE": str(file), **teacher}, "TERMS": terms},
    )


def build(cfg, train_set, seed=0):
    from pcdet.models import build_network

    torch.manual_seed(seed)
    return build_network(
        model_cfg=cfg.MODEL, num_class=len(train_set.class_names), dataset=train_set
    )


def teacher_file(tmp_path, cfg, train_set, epochs=0):
    """A checkpoint of the teacher of ``cfg``."""
    from pcdet.config import cfg_from_yaml_file

    teacher_cfg = cfg_from_yaml_file(cfg.DISTILL.TEACHER.CFG_FILE, EasyDict())
    model = build(teacher_cfg, train_set, seed=1)
    if epochs:
        train(model, train_set, tmp_path / "teacher_ckpt", epochs)
    torch.save(
        {"model_state": model.state_dict()},
        tmp_path / "teacher.pth",
        _use_new_zipfile_serialization=False,
    )
    return tmp_path / "teacher.pth"


def leaf_modules(model):
    """What adam_onecycle's layer groups hold: parameters of other modules it would not train."""
    children = list(model.children())
    return sum(map(leaf_modules, children), []) if children else [model]


def train(model, train_set, ckpt_dir, epochs, several_processes=False):
    """What OpenPCDet's train.py does from build_optimizer on; gives what it logs."""
    from pcdet.models import model_fn_decorator

    parameters = nn.Sequential(*leaf_modules(model)).parameters()
    optimizer = torch.optim.Adam([p for p in parameters if p.requires_grad], lr=0.01)
    ckpt_dir.mkdir(exist_ok=True)
    start, files = 0, sorted(ckpt_dir.glob("*.pth"))
    if files:
        _, start = model.load_params_with_optimizer(
            str(files[-1]), to_cpu=True, optimizer=optimizer, logger=LOG
        )
    model.train()
    wrapped = nn.parallel.DistributedDataParallel(model) if several_processes else model
    model_func, logs = model_fn_decorator(), []
    for epoch in range(start, epochs):
        for first in range(0, len(train_set), 4):
            batch = train_set.collate_batch([train_set[first + number] for number in range(4)])
            optimizer.zero_grad()
            loss, tb_dict, disp_dict = model_func(wrapped, batch)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 10)
            optimizer.step()
            logs.append({"loss": loss.item(), **tb_dict, **disp_dict})
        state = to_cpu(wrapped.module.state_dict()) if several_processes else model.state_dict()
        torch.save(
            {
                "epoch": epoch + 1,
                "it": len(logs),
                "model_state": state,
                "optimizer_state": optimizer.state_dict(),
                "version": "pcdet+0.6.0",
            },
            ckpt_dir / f"checkpoint_epoch_{epoch + 1}.pth",
            _use_new_zipfile_serialization=False,
        )
    return logs


def to_cpu(state):
    """As OpenPCDet copies a state when it trains in several processes."""
    copied = type(state)()
    for key, value in state.items():
        copied[key] = value.cpu()
    return copied


def test(cfg, train_set, file):
    """What OpenPCDet's test.py does with a plain student; gives its detections and what it complained of."""
    complaints = []
    model = build(cfg, train_set, seed=9)
    model.load_params_from_file(
        filename=str(file), logger=SimpleNamespace(info=complaints.append), to_cpu=True
    )
    return detections(model, train_set), complaints


test.__test__ = False


def detections(model, train_set):
    from pcdet.models.data import load_data_to_gpu

    batch = train_set.collate_batch([train_set[number] for number in range(2)])
    load_data_to_gpu(batch)
    was_training = model.training
    with torch.no_grad():
        found = model.eval()(batch)[0]
    model.train(was_training)
    return torch.cat([frame["pred_boxes"] for frame in found])


def distilled(tmp_path, terms, name="PointPillar", train_set=None, **more):
    """A student, and the distiller around it, after train.py's two lines."""
    train_set = train_set or TrainSet()
    cfg = config(tmp_path, terms, name=name)
    student = build(cfg, train_set)
    model = distill_openpcdet(
        student, cfg, train_set, teacher_file(tmp_path, cfg, train_set), logger=LOG, **more
    )
    return cfg, train_set, student, model


@pytest.fixture
def process_group(tmp_path):
    """As if this process were one of several."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/meeting_point", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("several_processes", [False, True])
def test_training_resuming_and_testing_as_openpcdet_does(tmp_path, several_processes):
    run = partial(train, several_processes=several_processes)
    cfg, train_set, student, model = distilled(tmp_path, {"PILLARS": PILLARS, "MAPS": MAPS})
    logs = run(model, train_set, tmp_path / "whole", 3)
    assert logs[-1]["distill_pillars"] < 0.8 * logs[0]["distill_pillars"]
    assert all(isinstance(value, float) for entry in logs for value in entry.values())
    file = tmp_path / "whole" / "checkpoint_epoch_3.pth"
    found, complaints = test(cfg, train_set, file)
    assert complaints == [] and torch.equal(found, detections(student, train_set)) and len(found)

    _, _, _, before = distilled(tmp_path, {"PILLARS": PILLARS, "MAPS": MAPS})
    run(before, train_set, tmp_path / "parts", 1)
    cfg, train_set, _, resumed = distilled(tmp_path, {"PILLARS": PILLARS, "MAPS": MAPS})
    for value in resumed.head.state_dict().values():
        value.add_(1)  # whatever the new one holds, the checkpoint's must take its place
    run(resumed, train_set, tmp_path / "parts", 3)
    whole, parts = (
        load_checkpoint(tmp_path / folder / "checkpoint_epoch_3.pth")
        for folder in ("whole", "parts")
    )
    assert int(whole["model_state"]["global_step"]) == 6
    for key, value in whole["model_state"].items():
        assert torch.equal(value, parts["model_state"][key])
    assert all(
        len(each["optimizer_state"]["state"]) == len(list(model.parameters()))
        for each in (whole, parts)
    )


def test_the_checkpoint_is_the_student_alone(tmp_path):
    _, train_set, student, model = distilled(tmp_path, {"PILLARS": PILLARS})
    train(model, train_set, tmp_path / "ckpt", 1)
    for strict in (True, False):  # also for the strictest reader
        state = torch.load(tmp_path / "ckpt" / "checkpoint_epoch_1.pth", weights_only=strict)[
            "model_state"
        ]
        assert list(state) == list(student.state_dict()) and type(state) is type(
            student.state_dict()
        )
        assert set(state._metadata["distill_state"]) == set(model.head.state_dict())
    assert list(model.state_dict()) == list(student.state_dict())
    assert list(model.state_dict(prefix="x.")) == ["x." + key for key in student.state_dict()]
    _, _, _, fresh = distilled(tmp_path, {"PILLARS": PILLARS})
    fresh.head.load_state_dict({key: value + 1 for key, value in model.head.state_dict().items()})
    fresh.load_state_dict(model.state_dict())
    assert all(
        torch.equal(value, model.head.state_dict()[key])
        for key, value in fresh.head.state_dict().items()
    )


def test_every_attribute_is_the_students(tmp_path):
    cfg, train_set, student, model = distilled(tmp_path, {"PILLARS": PILLARS})
    assert (
        model.dataset is train_set
        and model.class_names == CLASSES
        and model.dense_head is student.dense_head
    )
    assert (
        model.mode == "TRAIN"
        and model.global_step is student.global_step
        and model.student is student
    )
    model.update_global_step()
    assert int(student.global_step) == 1
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = model.nothing
    assert torch.equal(detections(model, train_set), detections(student, train_set))


@pytest.mark.parametrize("name", [*DISTILL_LOSSES, *BATCH_TRANSFORMS])
def test_every_loss_and_every_parameter_of_it_is_trained(tmp_path, name):
    """adam_onecycle sees the parameters of modules without children only."""
    path = None
    if name in DISTILL_LOSSES:
        compares_heads = issubclass(DISTILL_LOSSES[name], PredictionLoss)
        path = "dense_head" if compares_heads else "backbone_2d@spatial_features_2d"
    sides = {"STUDENT": path, "TEACHER": path} if path else {}
    _, train_set, _, model = distilled(tmp_path, {"TERM": {"NAME": name, **sides}})
    seen = {id(parameter) for module in leaf_modules(model) for parameter in module.parameters()}
    assert seen == {id(parameter) for parameter in model.parameters()}
    logs = train(model, train_set, tmp_path / "ckpt", 1)
    assert np.isfinite(logs[-1]["loss"]) and (path is None or logs[-1]["distill_term"] > 0)
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_sparse_tensors_of_second(tmp_path):
    train_set = TrainSet(voxel_size=[0.5, 0.5, 1.0])
    path = "backbone_3d@encoded_spconv_tensor"
    data = {
        **DATA,
        "DATA_PROCESSOR": [{**DATA["DATA_PROCESSOR"][0], "VOXEL_SIZE": [0.5, 0.5, 1.0]}],
    }
    cfg = config(
        tmp_path,
        {"CELLS": {**PILLARS, "STUDENT": path, "TEACHER": path}, "MAPS": MAPS},
        name="SECONDNet",
        data=data,
    )
    cfg.DATA_CONFIG = EasyDict(data)
    model = distill_openpcdet(
        build(cfg, train_set), cfg, train_set, teacher_file(tmp_path, cfg, train_set)
    )
    taps = {name: term.student.info for name, term in model.head.named_terms()}
    assert (taps["CELLS"].kind, taps["CELLS"].channels, taps["CELLS"].stride) == ("sparse", 4, 2)
    assert (taps["MAPS"].kind, taps["MAPS"].channels, taps["MAPS"].stride) == ("bev", 8, 2)
    logs = train(model, train_set, tmp_path / "ckpt", 3)
    assert logs[-1]["distill_cells"] < logs[0]["distill_cells"]


def test_predictions_are_compared(tmp_path):
    """OpenPCDet's anchor head keeps its anchors by class."""
    term = {"NAME": "LogitBoxLoss", "STUDENT": "dense_head", "TEACHER": "dense_head"}
    _, train_set, _, model = distilled(tmp_path, {"LOGITS": term})
    logs = train(model, train_set, tmp_path / "ckpt", 3)
    assert 0 < logs[-1]["distill_logits"] < logs[0]["distill_logits"]


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_predictions_of_other_heads_are_refused(tmp_path, side):
    """OpenPCDet's CenterHead has other attributes than this package's."""
    train_set = TrainSet()
    terms = {"LOGITS": {"NAME": "LogitBoxLoss", "STUDENT": "dense_head", "TEACHER": "dense_head"}}
    cfg = config(tmp_path, terms)
    models = {"student": build(cfg, train_set), "teacher": build(cfg, train_set)}
    head = models[side].dense_head
    head.__class__ = type(
        "CenterHead", (type(head),), {"__module__": "pcdet.models.dense_heads.center_head"}
    )
    with pytest.raises(
        ConfigError,
        match=f"LOGITS.{side.upper()}: predictions of OpenPCDet's CenterHead cannot be "
        "read, those of AnchorHeadSingle can",
    ):
        distill_openpcdet(models["student"], cfg, train_set, teacher=models["teacher"])


def test_the_teacher_is_frozen_and_runs_no_post_processing(tmp_path):
    _, train_set, _, model = distilled(tmp_path, {"PILLARS": PILLARS})
    teacher = model.teacher.model
    before = copy.deepcopy(teacher.state_dict())
    looked = teacher.post_processed  # by the check at the start
    train(model, train_set, tmp_path / "ckpt", 1)
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    assert teacher.post_processed == looked and not teacher.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_a_teacher_of_the_other_kind(tmp_path):
    """Its own mode, classes in another order, or one that was built elsewhere."""
    train_set = TrainSet()
    cfg = config(tmp_path, {"PILLARS": PILLARS}, MODE="train")
    file = teacher_file(tmp_path, cfg, train_set)
    assert distill_openpcdet(build(cfg, train_set), cfg, train_set, file).teacher.mode == "train"
    yaml_file = Path(cfg.DISTILL.TEACHER.CFG_FILE)
    yaml_file.write_text(
        yaml_file.read_text().replace("- Car\n- Pedestrian\n", "- Pedestrian\n- Car\n")
    )
    model = distill_openpcdet(build(cfg, train_set), cfg, train_set, file)
    assert model.teacher.classes.student_labels(torch.tensor([1, 2, 3])).tolist() == [2, 1, 3]
    assert model.teacher.model.class_names == ["Pedestrian", "Car", "Cyclist"]
    other = Teacher(build(cfg, train_set, seed=5))
    assert distill_openpcdet(build(cfg, train_set), cfg, train_set, teacher=other).teacher is other


def test_a_teacher_of_this_package(tmp_path):
    """Any of pcdet_distill.models that was made for the same voxels."""
    train_set = TrainSet()
    cfg = config(tmp_path, {"PILLARS": PILLARS, "MAPS": MAPS}, MODE="train")
    spec = DataSpec.from_config(DATA, CLASSES)
    teacher = build_network(model_config(), len(CLASSES), spec)
    model = distill_openpcdet(build(cfg, train_set), cfg, train_set, teacher=teacher)
    assert model.teacher.model is teacher and model.teacher.mode == "train"
    logs = train(model, train_set, tmp_path / "ckpt", 2)
    assert logs[-1]["distill_pillars"] < logs[0]["distill_pillars"] and logs[-1]["distill_maps"] > 0


def test_the_teacher_is_looked_at_first(tmp_path, caplog):
    train_set = TrainSet()
    cfg = config(tmp_path, {"PILLARS": PILLARS}, teacher_width=16)
    with caplog.at_level(logging.INFO):
        distill_openpcdet(
            build(cfg, train_set),
            cfg,
            train_set,
            teacher_file(tmp_path, cfg, train_set),
            logger=LOG,
        )
    assert (
        "distill PILLARS: student vfe@pillar_features (4 channels) learns from teacher vfe@pillar_features (16"
        in caplog.text
    )
    assert "teacher check: the teacher finds only" in caplog.text


def test_an_example_batch_takes_the_place_of_frames(tmp_path):
    class NoFrames(TrainSet):
        def __getitem__(self, index):
            raise AssertionError("not to be read")

    train_set, whole = NoFrames(), TrainSet()
    cfg = config(tmp_path, {"PILLARS": PILLARS})
    batch = whole.collate_batch([whole[0], whole[1]])
    keys = set(batch)
    model = distill_openpcdet(
        build(cfg, train_set),
        cfg,
        train_set,
        teacher_file(tmp_path, cfg, train_set),
        example_batch=batch,
    )
    assert model.head.terms["PILLARS"].student.info.channels == 4 and set(batch) == keys
    assert isinstance(batch["voxels"], np.ndarray)


def test_limits_of_voxels_may_differ(tmp_path):
    data = copy.deepcopy(DATA)
    data["DATA_PROCESSOR"][0]["MAX_NUMBER_OF_VOXELS"]["train"] = 7
    train_set = TrainSet()
    cfg = config(tmp_path, {"PILLARS": PILLARS}, data=data)
    assert distill_openpcdet(
        build(cfg, train_set), cfg, train_set, teacher_file(tmp_path, cfg, train_set)
    )


def test_without_the_block_nothing_changes(tmp_path):
    train_set = TrainSet()
    cfg = config(tmp_path, {})
    del cfg["DISTILL"]
    student = build(cfg, train_set)
    assert distill_openpcdet(student, cfg, train_set) is student


def test_weights_that_change_follow_global_step(tmp_path):
    changing = {**PILLARS, "WEIGHT": {"START": 1.0, "END": 0.0, "SCHEDULE": "linear"}}
    with pytest.raises(
        ConfigError, match="PILLARS.WEIGHT: it changes with the progress of the training"
    ):
        distilled(tmp_path, {"PILLARS": changing})
    _, train_set, _, model = distilled(tmp_path, {"PILLARS": changing}, total_steps=4)
    logs = train(model, train_set, tmp_path / "ckpt", 3)
    assert logs[0]["distill_pillars"] > 0 and logs[4]["distill_pillars"] == 0


def refusal(tmp_path, error, change=None, teacher_ckpt=True, train_set=None, **arguments):
    train_set = train_set or TrainSet()
    cfg = config(tmp_path, {"PILLARS": PILLARS})
    file = teacher_file(tmp_path, cfg, train_set)
    if change is not None:
        change(cfg)
    with pytest.raises(error) as caught:
        distill_openpcdet(
            build(cfg, train_set), cfg, train_set, file if teacher_ckpt else None, **arguments
        )
    return str(caught.value)


@pytest.mark.parametrize(
    "change, words",
    [
        (
            lambda cfg: cfg.DISTILL.update(TERM={}),
            "DISTILL: unknown key 'TERM'; did you mean 'TERMS'",
        ),
        (lambda cfg: cfg.DISTILL.pop("TERMS"), "DISTILL.TERMS is missing"),
        (
            lambda cfg: cfg.DISTILL.update(INIT_STUDENT="SLICE"),
            "DISTILL.INIT_STUDENT: not available around OpenPCDet",
        ),
        (lambda cfg: cfg.DISTILL.TEACHER.pop("CFG_FILE"), "DISTILL.TEACHER.CFG_FILE is missing"),
        (
            lambda cfg: cfg.DISTILL.TEACHER.update(CFG_FILE="cfgs/nowhere.yaml"),
            "paths in OpenPCDet's yaml files count",
        ),
        (
            lambda cfg: cfg.DATA_CONFIG.update(POINT_CLOUD_RANGE=[0, 0, 0, 1, 1, 1]),
            "both share one batch",
        ),
        (
            lambda cfg: cfg.DISTILL.TERMS.PILLARS.update(STUDENT="vfe@pillars"),
            "no 'pillars' in the output of vfe",
        ),
    ],
)
def test_wrong_blocks_are_one_sentence(tmp_path, change, words):
    assert words in refusal(tmp_path, ConfigError, change)


def test_wrong_teachers_are_one_sentence(tmp_path):
    assert "DISTILL.TEACHER.CKPT: the teacher has no checkpoint" in refusal(
        tmp_path, ConfigError, teacher_ckpt=False
    )

    def wider(cfg):
        cfg.DISTILL.TEACHER.CFG_FILE = None
        cfg.DISTILL.TEACHER.MODEL = EasyDict(model_cfg(10))

    assert "teacher.pth, as the teacher: does not fit the model" in refusal(
        tmp_path, CheckpointError, wider
    )
    other = build(config(tmp_path, {}), TrainSet(voxel_size=[1.0, 1.0, 4.0]))
    assert "both a teacher and teacher_ckpt were given" in refusal(
        tmp_path, ConfigError, teacher=other
    )
    message = refusal(tmp_path, ConfigError, teacher=other, teacher_ckpt=False)
    assert "the teacher's voxel_size is [1.0, 1.0, 4.0], the student's [0.5, 0.5, 4.0]" in message


def test_a_plain_training_cannot_be_resumed_as_a_distillation(tmp_path, caplog):
    cfg, train_set, student, model = distilled(tmp_path, {"PILLARS": PILLARS})
    train(build(cfg, train_set), train_set, tmp_path / "plain", 1)
    with pytest.raises(CheckpointError, match="no distill_state in it"):
        model.load_params_with_optimizer(
            str(tmp_path / "plain" / "checkpoint_epoch_1.pth"), logger=LOG
        )
    assert "give it as --pretrained_model" in caplog.text


def test_synchronised_batch_norm_as_train_py_makes_it(tmp_path):
    model = distilled(tmp_path, {"PILLARS": PILLARS})[3]
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert converted is model and isinstance(model, OpenPCDetDistiller)
    assert isinstance(model.student.vfe.norm, nn.SyncBatchNorm)
    assert isinstance(model.teacher.model.vfe.norm, nn.BatchNorm1d)
