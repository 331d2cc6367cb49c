"""cfgs/synthetic/privileged: each pair trains, and a student that sees more is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pcdet_distill.checkpoint import save_checkpoint
from pcdet_distill.config import CloudOptions, load_config
from pcdet_distill.datasets import build_dataset
from pcdet_distill.datasets.dataset import DatasetTemplate
from pcdet_distill.datasets.kitti.kitti_infos import create_kitti_infos
from pcdet_distill.datasets.synthetic import create_synthetic_kitti
from pcdet_distill.distill import Distiller, build_distiller
from pcdet_distill.errors import ConfigError
from pcdet_distill.models import build_network, load_data_to_device
from pcdet_distill.types import ConfigDict

REPO = Path(__file__).resolve().parents[2]
FOLDER = REPO / "cfgs/synthetic/privileged"
# Each distillation with its teacher, its plain student, and by how much more the teacher sees.
PAIRS = {
    "beams_64to16": ("beams_teacher", "beams_student", 3.0),
    "hdl64e_to_vlp16": ("sensors_teacher", "sensors_student", 4.0),
    "sweeps_5to1": ("sweeps_teacher", "sweeps_student", 4.0),
    "second_to_pointpillar": ("second_teacher", None, 1.0),
}
# The same pairs under the methods that were made for such teachers.
METHODS = {
    "lidar_distillation_64to16": PAIRS["beams_64to16"],
    "sparse2dense_5to1": PAIRS["sweeps_5to1"],
    "xray_5to1": PAIRS["sweeps_5to1"],
}
SELECTING = [name for name in PAIRS if PAIRS[name][1]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames that serve all pairs, with the database of each of their clouds."""
    root = create_synthetic_kitti(
        tmp_path_factory.mktemp("privileged") / "sim",
        5,
        2,
        val_frames=1,
        sensors=["hdl64e", "vlp16"],
        sweeps=5,
        progress=False,
    )
    create_kitti_infos(root, show_progress=False)
    for name in ("beams", "sensors", "sweeps"):
        cloud = CloudOptions.from_config(load_config(FOLDER / f"{name}_dataset.yaml"))
        create_kitti_infos(root, show_progress=False, cloud=cloud)
    return root


def load(name: str, data: Path) -> ConfigDict:
    return load_config(FOLDER / f"{name}.yaml", ["DATA_CONFIG.DATA_PATH", str(data)])


def frames_of(cfg: ConfigDict) -> DatasetTemplate:
    return build_dataset(cfg.DATA_CONFIG, cfg.CLASS_NAMES, training=True, seed=1)


def checkpoint_of(name: str, data: Path, folder: Path) -> Path:
    """A random detector of a yaml file, as a checkpoint."""
    cfg = load(name, data)
    model = build_network(cfg.MODEL, len(cfg.CLASS_NAMES), frames_of(cfg))
    file = folder / f"{name}.pth"
    save_checkpoint({"model_state": model.state_dict()}, file)
    return file


def distiller_of(cfg: ConfigDict, teacher_ckpt: Path) -> tuple[Distiller, DatasetTemplate]:
    dataset = frames_of(cfg)
    student = build_network(cfg.MODEL, len(cfg.CLASS_NAMES), dataset)
    return build_distiller(cfg, student, dataset, teacher_ckpt=teacher_ckpt), dataset


@pytest.mark.parametrize("name", [*PAIRS, *METHODS])
def test_each_pair_trains(name: str, data: Path, tmp_path: Path) -> None:
    teacher, _, more = {**PAIRS, **METHODS}[name]
    distiller, dataset = distiller_of(load(name, data), checkpoint_of(teacher, data, tmp_path))
    batch = dataset.collate_batch([dataset[0], dataset[1]])
    of_teacher = len(batch["teacher"]["points"])
    assert of_teacher >= more * len(batch["points"])
    load_data_to_device(batch, "cpu")
    distiller.train()
    losses = distiller(batch)[0]
    loss = losses["loss"]
    loss.backward()
    assert torch.isfinite(loss)


@pytest.mark.parametrize("name", SELECTING)
def test_the_teachers_input_is_that_of_its_own_training(
    name: str, data: Path, tmp_path: Path
) -> None:
    """Without gt_sampling, whose filter counts what the trained model sees."""
    teacher, _, _ = PAIRS[name]
    ckpt = checkpoint_of(teacher, data, tmp_path)
    teacher_cfg = load(teacher, data)
    cfg = load(name, data)
    for config in (teacher_cfg, cfg):
        config.DATA_CONFIG.DATA_AUGMENTOR.DISABLE_AUG_LIST = ["gt_sampling"]
    _, distilled = distiller_of(cfg, ckpt)
    trained_on = frames_of(teacher_cfg)
    for index in range(3):
        expected = trained_on[index]
        found = distilled[index]["teacher"]
        for key in ("points", "voxels", "voxel_coords", "voxel_num_points"):
            np.testing.assert_array_equal(expected[key], found[key], err_msg=key)


@pytest.mark.parametrize("name", SELECTING)
def test_a_cached_teacher_reads_its_own_points(name: str, data: Path, tmp_path: Path) -> None:
    """The view from which its predictions are computed is that of its own evaluation."""
    teacher, _, _ = PAIRS[name]
    cfg = load(name, data)
    cfg.DISTILL.TEACHER.CACHE = "predictions"
    cfg.DISTILL.TEACHER.CACHE_DIR = str(tmp_path / "cache")
    distiller, dataset = distiller_of(cfg, checkpoint_of(teacher, data, tmp_path))
    view = distiller.teacher.cache.builder.view
    points = dataset.load_frame(0)["points"]
    found = view.make(points, np.random.RandomState(0))["points"]
    evaluated = load(teacher, data)
    evaluated.DATA_CONFIG.INFO_PATH.test = evaluated.DATA_CONFIG.INFO_PATH.train
    frames = build_dataset(evaluated.DATA_CONFIG, evaluated.CLASS_NAMES, training=False)
    np.testing.assert_array_equal(frames[0]["points"], found)


@pytest.mark.parametrize("name", SELECTING)
def test_the_student_sees_the_same_with_and_without_a_teacher(
    name: str, data: Path, tmp_path: Path
) -> None:
    teacher, student, _ = PAIRS[name]
    _, distilled = distiller_of(load(name, data), checkpoint_of(teacher, data, tmp_path))
    plain = frames_of(load(str(student), data))
    for index in range(2):
        for key in ("points", "voxels", "gt_boxes"):
            np.testing.assert_array_equal(plain[index][key], distilled[index][key], err_msg=key)


@pytest.mark.parametrize("name", SELECTING)
def test_a_student_that_sees_more_is_refused(name: str, data: Path, tmp_path: Path) -> None:
    teacher, student, _ = PAIRS[name]
    exchanged = load(teacher, data)
    exchanged.DISTILL = load(name, data).DISTILL
    exchanged.DISTILL.TEACHER.CFG_FILE = str(FOLDER / f"{student}.yaml")
    words = r"the student sees \d+ points of the first frames and its teacher \d+, so the teacher"
    with pytest.raises(ConfigError, match=words):
        distiller_of(exchanged, checkpoint_of(str(student), data, tmp_path))


@pytest.mark.parametrize("name", SELECTING)
def test_a_teacher_of_the_same_points_is_accepted(name: str, data: Path, tmp_path: Path) -> None:
    """The control without the privilege: student and teacher see alike."""
    _, student, _ = PAIRS[name]
    control = load(name, data)
    control.DISTILL.TEACHER.CFG_FILE = str(FOLDER / f"{student}.yaml")
    ckpt = checkpoint_of(str(student), data, tmp_path)
    _, dataset = distiller_of(control, ckpt)
    assert "teacher" not in dataset[0]


@pytest.mark.parametrize("name", SELECTING)
def test_the_stored_predictions_are_of_all_that_the_teacher_sees(
    name: str, data: Path, tmp_path: Path
) -> None:
    """Without augmentation they are those of the teacher that runs beside the student."""
    cfg = load(name, data)
    checkpoint = checkpoint_of(PAIRS[name][0], data, tmp_path)
    live, dataset = distiller_of(cfg, checkpoint)
    # Untrained, all scores are near 0.01: half of them are stored.
    settings = {"CACHE": "predictions", "CACHE_DIR": str(tmp_path / "cache"), "CACHE_THRESH": 0.01}
    cfg.DISTILL.TEACHER.update(settings)
    cached, cached_dataset = distiller_of(cfg, checkpoint)
    cached.prepare_data()
    for each in (dataset, cached_dataset):
        each.disable_augmentations([name for name, _ in each.data_augmentor.queue], 0)
    batches = []
    for each in (dataset, cached_dataset):
        batch = each.collate_batch([each[0]])
        load_data_to_device(batch, "cpu")
        batches.append(batch)
    assert "teacher" not in batches[1]
    reader = live.head.terms["LOGIT_BOX"].teacher.reader
    own_batch = live.teacher.own_batch(batches[0])
    _, features = live.teacher.detect(own_batch, reader.paths)
    rows = live.head.terms["LOGIT_BOX"].teacher.read(features, own_batch, detached=True)
    stored = cached.head.terms["LOGIT_BOX"].teacher.read({}, batches[1], detached=True)
    above = rows.scores() > 0.01
    assert above.any()
    # Logits are stored in half precision.
    torch.testing.assert_close(stored.scores()[above], rows.scores()[above], rtol=1e-2, atol=0)
    losses, logs, _ = cached.train()(batches[1])
    losses["loss"].backward()
    assert logs["distill_logit_box"].isfinite()
