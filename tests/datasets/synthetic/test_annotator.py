"""The annotator: noise of the stated size, missed objects, a calibration that is off."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from pcdet_distill.datasets.kitti.kitti_infos import create_kitti_infos
from pcdet_distill.datasets.synthetic import create_synthetic_kitti
from pcdet_distill.datasets.synthetic.annotator import Annotation, annotate
from pcdet_distill.datasets.synthetic.labels import Label
from pcdet_distill.datasets.synthetic.scenes.options import LabelOptions, SceneOptions
from pcdet_distill.datasets.synthetic.streams import Streams

COUNT = 3000
DISTANCE_M = 15.0  # far = 1.5


def label(number: int, occluded: int = 0, num_points: int = 100, name: str = "Car") -> Label:
    return Label(
        name=name,
        number=number,
        num_points=num_points,
        truncated=0.0,
        occluded=occluded,
        image_box=np.array([1.0, 2.0, 3.0, 4.0]),
        location=np.array([9.0, 1.5, 12.0]),  # 15 m away
        size_m=np.array([4.0, 1.6, 1.5]),
        rotation_y=0.3,
    )


def annotated(options: LabelOptions, frame: int = 0, **changes: int) -> Annotation:
    labels = [label(number, **changes) for number in range(COUNT)]
    return annotate(labels, options, Streams(0, frame))


def test_without_options_the_labels_are_the_truth() -> None:
    annotation = annotated(LabelOptions())
    for found, true in zip(annotation.labels, annotation.truth):
        assert found.line() == true.line()
    assert len(annotation.labels) == COUNT


@pytest.mark.parametrize(
    ("options", "num_points", "scale"),
    [
        (LabelOptions(noise=1.0), 100, 1.0),
        (LabelOptions(noise=0.5), 100, 0.5),
        (LabelOptions(noise=1.0, few_points=2.0), 16, 1.5),
    ],
)
def test_the_noise_has_the_size_of_its_formula(
    options: LabelOptions, num_points: int, scale: float
) -> None:
    annotation = annotated(options, num_points=num_points)
    sizes = np.array([entry.size_m for entry in annotation.labels]) / [4.0, 1.6, 1.5] - 1.0
    places_m = np.array([entry.location for entry in annotation.labels]) - [9.0, 1.5, 12.0]
    yaws_rad = np.array([entry.rotation_y for entry in annotation.labels]) - 0.3
    far = 1.5
    np.testing.assert_allclose(sizes.std(axis=0) / scale, [0.05, 0.04, 0.03], rtol=0.06)
    expected_m = np.array([0.06, 0.03, 0.06]) * far
    np.testing.assert_allclose(places_m.std(axis=0) / scale, expected_m, rtol=0.06)
    assert yaws_rad.std() / scale == pytest.approx(np.deg2rad(2.5) * far, rel=0.06)
    everything = np.column_stack([sizes, places_m, yaws_rad])
    standardised = everything / everything.std(axis=0)
    assert np.abs(standardised.mean(axis=0)).max() < 0.08
    correlations = np.corrcoef(standardised.T) - np.eye(7)
    assert np.abs(correlations).max() < 0.08
    for found, true in zip(annotation.labels, annotation.truth):
        assert found.occluded == true.occluded
        np.testing.assert_array_equal(found.image_box, true.image_box)


def test_the_noise_of_an_object_does_not_depend_on_the_others() -> None:
    options = LabelOptions(noise=1.0, missed=0.4)
    everyone = annotated(options, occluded=2)
    alone = annotate([label(7, occluded=2)], options, Streams(0, 0))
    same = [entry for entry in everyone.labels if entry.number == 7]
    assert [entry.line() for entry in same] == [entry.line() for entry in alone.labels]
    other_frame = annotate([label(8)], LabelOptions(noise=1.0), Streams(0, 1)).labels[0]
    this_frame = annotate([label(8)], LabelOptions(noise=1.0), Streams(0, 0)).labels[0]
    assert other_frame.line() != this_frame.line()


@pytest.mark.parametrize(("occluded", "share"), [(0, 0.0), (1, 0.5), (2, 1.0)])
def test_hidden_objects_are_missed_or_ignored(occluded: int, share: float) -> None:
    annotation = annotated(LabelOptions(missed=0.3, ignored=0.2), occluded=occluded)
    ignored = [entry for entry in annotation.labels if entry.is_ignored]
    found = [entry for entry in annotation.labels if not entry.is_ignored]
    missed = COUNT - len(annotation.labels)
    assert missed / COUNT == pytest.approx(0.3 * share, abs=0.03)
    assert len(ignored) / COUNT == pytest.approx(0.2 * share, abs=0.03)
    # The same objects in the same order; a missed one is DontCare among the true boxes.
    true = [entry for entry in annotation.truth if not entry.is_ignored]
    assert [entry.number for entry in found] == [entry.number for entry in true]
    assert len(annotation.truth) == COUNT


def test_a_region_that_is_ignored_anyway_stays_so() -> None:
    annotation = annotate([label(0, name="DontCare")], LabelOptions(noise=1.0), Streams(0, 0))
    assert [entry.line() for entry in annotation.labels] == [label(0, name="DontCare").line()]
    assert annotation.labels == annotation.truth


def test_the_calibration_moves_all_labels_of_a_frame_alike() -> None:
    shifts_m = []
    turns_rad = []
    for frame in range(400):
        options = LabelOptions(calibration_m=0.1, calibration_deg=0.5)
        labels = [label(0), label(1)]
        found = annotate(labels, options, Streams(0, frame)).labels
        np.testing.assert_array_equal(found[0].location, found[1].location)
        np.testing.assert_array_equal(found[0].size_m, labels[0].size_m)
        shifts_m.append(found[0].location - labels[0].location)
        turns_rad.append(found[0].rotation_y - 0.3)
    assert np.std(turns_rad) == pytest.approx(np.deg2rad(0.5), rel=0.12)
    # Along y: 0.1 m of its own, and turns about x and z lift a box 12 m ahead and 9 m aside.
    turned_m = np.deg2rad(0.5) * DISTANCE_M
    assert np.std(shifts_m, axis=0)[1] == pytest.approx(np.hypot(0.1, turned_m), rel=0.12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("noisy") / "kitti"
    scenes = SceneOptions(labels=LabelOptions(noise=0.5, missed=0.5, ignored=0.2))
    return create_synthetic_kitti(
        out, 8, seed=2, val_frames=3, holdout_frames=2, scenes=scenes, progress=False
    )


def read_rows(folder: Path, name: str, frame: int) -> list[list[str]]:
    lines = (folder / f"training/{name}/{frame:06d}.txt").read_text().splitlines()
    return [line.split() for line in lines if not line.startswith("DontCare")]


def test_true_labels_lie_beside_the_noisy_ones(folder: Path, tmp_path: Path) -> None:
    easy = create_synthetic_kitti(tmp_path / "easy", 8, seed=2, val_frames=3, progress=False)
    assert not (easy / "training/label_2_true").exists()
    num_objects = 0
    for frame in range(8):
        noisy = read_rows(folder, "label_2", frame)
        true = read_rows(folder, "label_2_true", frame)
        clean = read_rows(easy, "label_2", frame)
        # Class, truncation, occlusion and the 2D box; alpha follows the noisy yaw.
        assert [row[:3] + row[4:8] for row in noisy] == [row[:3] + row[4:8] for row in true]
        assert all(row in clean for row in true)
        assert all(found[8:] != row[8:] for found, row in zip(noisy, true))
        cloud = f"training/velodyne/{frame:06d}.bin"
        assert (folder / cloud).read_bytes() == (easy / cloud).read_bytes()
        num_objects += len(true)
    assert num_objects > 20


def test_info_files_of_true_boxes_are_for_evaluation(folder: Path) -> None:
    create_kitti_infos(folder, show_progress=False)
    names = {path.name for path in folder.glob("*_true.pkl")}
    assert names == {"kitti_infos_val_true.pkl", "kitti_infos_holdout_true.pkl"}
    noisy_infos = pickle.loads((folder / "kitti_infos_val.pkl").read_bytes())
    true_infos = pickle.loads((folder / "kitti_infos_val_true.pkl").read_bytes())
    for noisy, true in zip(noisy_infos, true_infos):
        assert noisy["point_cloud"] == true["point_cloud"]
        objects = noisy["annos"]["name"] != "DontCare"
        true_objects = true["annos"]["name"] != "DontCare"
        names = noisy["annos"]["name"][objects].tolist()
        assert names == true["annos"]["name"][true_objects].tolist()
        difficulty = noisy["annos"]["difficulty"][objects].tolist()
        assert difficulty == true["annos"]["difficulty"][true_objects].tolist()
        offset_m = noisy["annos"]["gt_boxes_lidar"] - true["annos"]["gt_boxes_lidar"]
        assert (np.abs(offset_m[:, :3]) < 0.5).all()
        assert len(offset_m) == 0 or np.abs(offset_m).max() > 0.005
