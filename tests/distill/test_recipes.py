"""Every recipe and KITTI yaml of a method builds real detectors, and trains a step."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from test_build_distiller import SMALL, network, voxel_batch

from pcdet_distill.checkpoint import save_checkpoint
from pcdet_distill.config import load_config
from pcdet_distill.datasets.predicted import (
    PREDICTED,
    LabelledFrame,
    PredictedScene,
    PredictionStore,
    write_part,
)
from pcdet_distill.datasets.predicted.scene import collate_predicted
from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.distill import build_distiller
from pcdet_distill.distill.cache import CachedTeacher
from pcdet_distill.distill.cache.build import BackgroundSums, rows_above, with_owners
from pcdet_distill.models import load_data_to_device

REPO = Path(__file__).parents[2]
RECIPES = sorted((REPO / "cfgs/synthetic/recipes").glob("*.yaml"))
KITTI = [
    file
    for file in sorted((REPO / "cfgs/kitti_distill").glob("pointpillar_4x_*.yaml"))
    if "pointdistiller" not in file.stem
    and "cfgs/kitti_models/pointpillar.yaml" in file.read_text()
]
DATA_FILES = r"(?<=cfgs/synthetic/dataset.yaml)|(?<=cfgs/synthetic/second_dataset.yaml)"
RANGE_LINE = re.compile(rf"    POINT_CLOUD_RANGE: .*|{DATA_FILES}")


@pytest.fixture(scope="module")
def teacher_of(tmp_path_factory):
    """From a teacher's yaml to one on a small range and a checkpoint of it, untrained."""
    made = {}

    def make(name):
        if name not in made:
            folder = tmp_path_factory.mktemp("teacher")
            text, changed = RANGE_LINE.subn(
                f"\n    POINT_CLOUD_RANGE: {SMALL}", (REPO / name).read_text()
            )
            assert changed == 1
            (folder / "teacher.yaml").write_text(text)
            torch.manual_seed(0)
            model, _ = network(load_config(folder / "teacher.yaml"))
            torch.nn.init.constant_(
                model.dense_head.conv_cls.bias, -1.0
            )  # sure enough of something
            save_checkpoint({"model_state": model.state_dict()}, folder / "teacher.pth")
            made[name] = folder
        return made[name]

    return make


class Data(DataSpec):
    """Does what a distiller may ask of a dataset."""

    def repeat_draws(self, epochs):
        pass


def small_distiller(file, teacher_of):
    """The distiller of a recipe on the small range, and its data."""
    cfg = load_config(file)
    cfg.DATA_CONFIG.POINT_CLOUD_RANGE = SMALL
    teacher = teacher_of(cfg.DISTILL.TEACHER.CFG_FILE)
    cfg.DISTILL.TEACHER.CFG_FILE = str(teacher / "teacher.yaml")
    torch.manual_seed(1)
    data = Data.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES)
    return build_distiller(
        cfg, network(cfg)[0], data, teacher_ckpt=teacher / "teacher.pth"
    ).train(), data


def bring_stored_predictions(teacher, batch, folder):
    """What CACHE: predictions does, for the frames of one batch without augmentation."""
    cache = teacher.cache
    reader = cache.builder.reader
    boxes, features = teacher.detect(dict(batch), reader.paths)
    rows = reader.read(features, batch)
    background = BackgroundSums(reader)
    frames = []
    for number, detections in enumerate(boxes):
        of_frame = rows.select(torch.nonzero(rows.batch_index == number).flatten())
        background.add(of_frame, cache.builder.threshold)
        stored = with_owners(
            rows_above(of_frame, reader, cache.builder.threshold), detections, np.zeros((0, 7))
        )
        frames.append(LabelledFrame(str(number), stored, np.zeros((0, 3))))
    write_part(folder / "part.npz", frames, background.arrays())
    cache.use(PredictionStore([folder / "part.npz"]))
    scenes = [PredictedScene(frame.predictions).finish(np.eye(4)) for frame in frames]
    batch[PREDICTED] = collate_predicted(scenes)
    load_data_to_device(batch, "cpu")


@pytest.mark.parametrize("file", RECIPES + KITTI, ids=lambda file: file.stem)
def test_recipe_trains_a_step(file, teacher_of, tmp_path):
    model, spec = small_distiller(file, teacher_of)
    before = {name: value.clone() for name, value in model.student.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    batch = voxel_batch(spec)
    # As of a dataset that takes frames without labels; the last one is such a frame.
    batch["is_labelled"] = torch.ones(len(batch["gt_boxes"]))
    batch["is_labelled"][-1] = 0
    if isinstance(model.teacher, CachedTeacher):
        bring_stored_predictions(model.teacher, batch, tmp_path)
    ret, tb, _ = model(batch)
    ret["loss"].backward()
    assert ret["loss"].isfinite()
    assert all(torch.as_tensor(value).isfinite().all() for value in tb.values())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    optimizer.step()
    assert any(
        not torch.equal(value, before[name]) for name, value in model.student.named_parameters()
    )
    assert all(p.grad is None for p in model.teacher.model.parameters())


@pytest.mark.parametrize(
    "name, takes",
    [("labels", True), ("logitbox_labels", True), ("soft_targets", True), ("logitbox", False)],
)
def test_frames_without_labels_are_taken_where_they_get_some(name, takes, teacher_of):
    class Unlabelled(DataSpec):
        taken = False

        def take_unlabelled(self):
            self.taken = True

    cfg = load_config(REPO / f"cfgs/synthetic/recipes/{name}.yaml")
    cfg.DATA_CONFIG.POINT_CLOUD_RANGE = SMALL
    teacher = teacher_of(cfg.DISTILL.TEACHER.CFG_FILE)
    cfg.DISTILL.TEACHER.CFG_FILE = str(teacher / "teacher.yaml")
    data = Unlabelled.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES)
    build_distiller(cfg, network(cfg)[0], data, teacher_ckpt=teacher / "teacher.pth")
    assert data.taken == takes
