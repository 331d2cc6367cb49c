"""A teacher with classes, points and files of its own kind."""

from __future__ import annotations

import logging

import pytest
import torch
import yaml
from small_model import random_scene
from small_second import second_batch, small_second
from small_two_stage import pv_rcnn_config
from toy_detectors import ToyDetector, toy_batch

from pcdet_distill.checkpoint import save_checkpoint
from pcdet_distill.config import load_config, to_plain
from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.distill import ClassMap, Teacher, build_teacher
from pcdet_distill.distill.teacher import TeacherPass
from pcdet_distill.errors import ConfigError, DataError
from pcdet_distill.models import build_network

STUDENT = ["Car", "Pedestrian", "Cyclist"]


def test_classes_are_matched_by_name():
    classes = ClassMap(STUDENT, ["Cyclist", "Van", "Car"])
    assert (classes.missing, classes.surplus, classes.is_identity) == (
        ["Pedestrian"],
        ["Van"],
        False,
    )
    assert classes.student_labels(torch.tensor([1, 2, 3, 3])).tolist() == [3, 0, 1, 1]
    assert ClassMap(STUDENT, STUDENT).is_identity
    with pytest.raises(
        ConfigError, match="classes are Bus; expected one or more of the student's Car, Pedestrian"
    ):
        ClassMap(STUDENT, ["Bus"])


class ToyPredictor(ToyDetector):
    """Predicts one box of every class, if it is given no labels."""

    def forward(self, batch_dict):
        assert "gt_boxes" not in batch_dict
        self.run_modules(batch_dict)
        return [
            {
                "pred_boxes": torch.arange(3.0)[:, None].repeat(1, 7),
                "pred_scores": torch.tensor([0.9, 0.8, 0.7]),
                "pred_labels": torch.tensor([1, 2, 3]),
            }
            for _ in range(2)
        ], {}


def test_predicted_boxes_have_the_students_labels():
    batch = {**toy_batch(), "gt_boxes": torch.zeros(2, 1, 8)}
    teacher = Teacher(ToyPredictor(6), classes=ClassMap(STUDENT, ["Cyclist", "Van", "Car"]))
    frame = teacher.predict(batch)[1]
    assert frame["pred_labels"].tolist() == [3, 1]
    assert frame["pred_scores"].tolist() == pytest.approx([0.9, 0.7])
    assert frame["pred_boxes"][:, 0].tolist() == [0, 2]
    same = Teacher(ToyPredictor(6), classes=ClassMap(STUDENT, STUDENT))
    assert same.predict(batch)[0]["pred_labels"].tolist() == [1, 2, 3]


def test_own_points_take_the_place_of_the_students():
    teacher = Teacher(ToyDetector(6), own_view=True)
    shared = toy_batch(seed=1)
    own = toy_batch(seed=2, per_frame=30)
    batch = {**shared, "points": torch.zeros(5, 5), "frame_id": ["a", "b"], "teacher": own}
    path = "vfe@pillar_features"
    output = teacher.run(batch, [path])
    features = output.features
    seen = output.batch_dict
    torch.testing.assert_close(features[path], Teacher(teacher.model).features(own, [path])[path])
    assert torch.equal(seen["voxel_coords"], own["voxel_coords"])
    assert seen["frame_id"] == ["a", "b"]
    assert "points" not in seen
    assert "teacher" not in seen
    assert "pillar_features" not in batch["teacher"]
    with pytest.raises(DataError, match="the batch has no 'teacher' entry"):
        teacher.run(shared, [path])


def test_without_taps_the_teacher_does_not_run():
    teacher = Teacher(ToyDetector(6))
    assert teacher.run(toy_batch(), []).features == {}
    assert teacher.model.backbone_2d.ran == 0


def test_one_pass_gives_boxes_and_features():
    teacher = Teacher(ToyPredictor(6))
    batch = toy_batch()
    path = "vfe@pillar_features"
    one = TeacherPass(teacher, [path])
    boxes = one.predict(batch)
    again = one.predict(batch)
    output = one.run(batch)
    features = output.features
    seen = output.batch_dict
    assert boxes is again
    assert teacher.model.backbone_2d.ran == 1
    assert "spatial_features_2d" in seen
    torch.testing.assert_close(features[path], teacher.features(batch, [path])[path])
    only = TeacherPass(teacher, [path])
    ran = teacher.model.backbone_2d.ran
    torch.testing.assert_close(only.run(batch).features[path], features[path])
    assert (
        teacher.model.backbone_2d.ran == ran
    )  # without boxes it goes no further than its last tap


# From files


def openpcdet(state, folder):
    torch.save(
        {
            "epoch": 80,
            "it": 1,
            "model_state": state,
            "optimizer_state": None,
            "version": "pcdet+0.6.0",
        },
        folder / "teacher.pth",
    )
    return folder / "teacher.pth"


def spconv_1(state, folder):
    """Sparse weights as (z, y, x, in, out), and the old serialization."""
    turned = {
        name: value.permute(1, 2, 3, 4, 0).contiguous() if value.dim() == 5 else value
        for name, value in state.items()
    }
    assert any(value.shape != state[name].shape for name, value in turned.items())
    torch.save({"model_state": turned}, folder / "old.pth", _use_new_zipfile_serialization=False)
    return folder / "old.pth"


def our_own(state, folder):
    save_checkpoint(
        {"model_state": state, "distill_state": {}, "epoch": 1, "it": 1}, folder / "own.pth"
    )
    return folder / "own.pth"


def safetensors(state, folder):
    pytest.importorskip("safetensors.torch").save_file(state, folder / "teacher.safetensors")
    return folder / "teacher.safetensors"


@pytest.fixture
def second(repo, tmp_path):
    """A student's config that names a SECOND as its teacher, and that teacher."""
    config = load_config(repo / "cfgs/synthetic/recipes/graph_scores.yaml")
    theirs = load_config(repo / "cfgs/synthetic/second_teacher.yaml")
    for key in ("ROOT_DIR", "TAG", "EXP_GROUP_PATH", "CONFIG_FILE"):
        del theirs[key]
    (tmp_path / "second.yaml").write_text(yaml.safe_dump(to_plain(theirs)))
    config.DISTILL.TEACHER.CFG_FILE = str(tmp_path / "second.yaml")
    torch.manual_seed(3)
    return config, build_network(
        theirs.MODEL, 3, DataSpec.from_config(theirs.DATA_CONFIG, theirs.CLASS_NAMES)
    )


@pytest.mark.parametrize("write", [openpcdet, spconv_1, our_own, safetensors])
def test_weights_of_every_kind_of_file(second, tmp_path, write, caplog):
    config, network = second
    spec = DataSpec.from_config(config.DATA_CONFIG, config.CLASS_NAMES)
    with caplog.at_level(logging.INFO):
        teacher = build_teacher(
            config, spec, write(network.state_dict(), tmp_path), logging.getLogger("test")
        )
    assert teacher.own_view
    assert teacher.classes is None
    assert "processed for it too (voxels of [0.1, 0.1, 0.1] m, range [0.0, -12.8" in caplog.text
    loaded = teacher.model.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in network.state_dict().items())


def test_names_of_another_repository(repo, tmp_path, second):
    """MODEL_TEACHER and TEACHER_CKPT at the top of the file, as SparseKD writes them."""
    config, network = second
    source = load_config(repo / "cfgs/synthetic/pointpillar_teacher.yaml")
    torch.manual_seed(4)
    network = build_network(
        source.MODEL, 3, DataSpec.from_config(source.DATA_CONFIG, source.CLASS_NAMES)
    )
    file = openpcdet(network.state_dict(), tmp_path)
    text = yaml.safe_dump({"MODEL_TEACHER": to_plain(source.MODEL), "TEACHER_CKPT": str(file)})
    (tmp_path / "student.yaml").write_text(
        f"_BASE_CONFIG_: {repo / 'cfgs/synthetic/pointpillar_student.yaml'}\n{text}"
    )
    cfg = load_config(tmp_path / "student.yaml")
    teacher = build_teacher(cfg, DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES))
    weight = "dense_head.conv_cls.weight"
    assert torch.equal(teacher.model.state_dict()[weight], network.state_dict()[weight])
    assert not teacher.own_view


def test_a_teacher_runs_only_what_its_taps_depend_on():
    """PV-RCNN's keypoints run before the map but are not needed for it."""
    teacher = Teacher(small_second(pv_rcnn_config()))
    batch = second_batch([random_scene(0)])
    ran = []
    for name, module in teacher.model.named_slots():
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
    path = "backbone_2d@spatial_features_2d"
    found = teacher.features(batch, [path])[path]
    assert ran == ["vfe", "backbone_3d", "map_to_bev_module", "backbone_2d"]
    ran.clear()
    both = teacher.features(batch, [path, "point_head.cls_layers"])
    assert ran == ["vfe", "backbone_3d", "map_to_bev_module", "pfe", "backbone_2d", "dense_head"]
    assert torch.equal(both[path], found)
    assert len(both) == 2
