"""The simulated version of nuScenes: what nuscenes-devkit finds in it, resuming, refusals."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pcdet_distill.cli import main
from pcdet_distill.datasets.synthetic import create_synthetic_nuscenes
from pcdet_distill.datasets.synthetic.nuscenes import writer
from pcdet_distill.datasets.synthetic.nuscenes.rows import TABLES
from pcdet_distill.errors import ConfigError, DataError
from pcdet_distill.evaluation.nuscenes import DETECTION_NAMES, Tables, nuscenes_eval, read_truth
from pcdet_distill.evaluation.nuscenes.filters import filtered
from pcdet_distill.evaluation.nuscenes.quaternions import rotation_matrices, yaws
from pcdet_distill.evaluation.nuscenes.result import NuScenesResult
from pcdet_distill.evaluation.nuscenes.truth import Poses, Truth

VERSION = "v1.0-mini"
FRAMES, VAL_FRAMES, SCENE_FRAMES, SWEEPS = 9, 4, 3, 3


def make(out: Path, **options: Any) -> Path:
    numbers = {"frames": FRAMES, "val_frames": VAL_FRAMES, "scene_frames": SCENE_FRAMES}
    return create_synthetic_nuscenes(
        out, **{**numbers, "sweeps": SWEEPS, "seed": 3, "progress": False, "workers": 1, **options}
    )


def digest(root: Path) -> dict[str, str]:
    """Checksum of every file below ``root``."""
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the version."""
    return make(tmp_path_factory.mktemp("simulated")) / VERSION


@pytest.fixture(scope="module")
def tables(made: Path) -> Tables:
    return Tables(made, VERSION)


def val_tokens(tables: Tables) -> list[str]:
    """The samples of the split mini_val."""
    scenes = {row["token"]: row["name"] for row in tables.by_token("scene").values()}
    return [
        token
        for token, row in tables.by_token("sample").items()
        if scenes[row["scene_token"]] in ("scene-0103", "scene-0916")
    ]


def test_all_tables_and_files(made: Path, tables: Tables) -> None:
    assert {path.stem for path in (made / VERSION).iterdir()} == set(TABLES)
    assert len(TABLES) == 13
    assert len(tables.by_token("sample")) == FRAMES
    sweeps = [row for row in tables.by_token("sample_data").values() if row["fileformat"] == "pcd"]
    for row in sweeps:
        cloud = np.fromfile(made / row["filename"], dtype=np.float32).reshape(-1, 5)
        assert 15_000 < len(cloud) < 36_000
        assert np.isfinite(cloud).all()
    assert len(sweeps) == SWEEPS * FRAMES


def test_names_are_those_of_the_official_splits(tables: Tables) -> None:
    names = [row["name"] for row in tables.by_token("scene").values()]
    assert names == ["scene-0061", "scene-0553", "scene-0103", "scene-0916"]
    assert len(val_tokens(tables)) == VAL_FRAMES


def test_sweeps_follow_each_other_at_twenty_a_second(tables: Tables) -> None:
    rows = tables.by_token("sample_data")
    for row in rows.values():
        if row["fileformat"] == "pcd" and row["prev"]:
            before = rows[row["prev"]]
            assert before["next"] == row["token"]
            gap_s = 1e-6 * (row["timestamp"] - before["timestamp"])
            expected = 0.05 if not before["is_key_frame"] else 0.5 - 0.05 * (SWEEPS - 1)
            assert gap_s == pytest.approx(expected)


def world_points(made: Path, tables: Tables, row: dict) -> np.ndarray:
    """The points of a sweep in the world."""
    points = np.fromfile(made / row["filename"], dtype=np.float32).reshape(-1, 5)[:, :3]
    points = points.astype(float)
    mount = tables.row("calibrated_sensor", row["calibrated_sensor_token"])
    for pose in (mount, tables.row("ego_pose", row["ego_pose_token"])):
        points = points @ rotation_matrices(np.array(pose["rotation"])).T + pose["translation"]
    return points


def inside(points: np.ndarray, label: dict, margin_m: float = 0.05) -> np.ndarray:
    """Which points (N,) lie in a labelled box."""
    local = (points - label["translation"]) @ rotation_matrices(np.array(label["rotation"]))
    width, length, height = label["size"]
    return np.all(np.abs(local) <= np.array([length, width, height]) / 2 + margin_m, axis=1)


def test_labels_lie_on_their_points(made: Path, tables: Tables) -> None:
    """Poses, sizes, rotations and counts fit together for every label of every key frame."""
    key_frames = {
        row["sample_token"]: row
        for row in tables.by_token("sample_data").values()
        if row["is_key_frame"] and row["fileformat"] == "pcd"
    }
    checked = 0
    for token, row in key_frames.items():
        points = world_points(made, tables, row)
        for label in tables.by_token("sample_annotation").values():
            if label["sample_token"] == token and label["num_lidar_pts"] >= 10:
                # Between leaves and behind windows a point may lie a little outside.
                assert inside(points, label).sum() >= 0.9 * label["num_lidar_pts"]
                checked += 1
    assert checked > 40


def test_what_stands_stays_in_place_while_the_vehicle_drives(made: Path, tables: Tables) -> None:
    """Parked vehicles are hit in all sweeps of a scene at the place of their label."""
    names = {row["token"]: row["name"] for row in tables.by_token("attribute").values()}
    sweeps = [row for row in tables.by_token("sample_data").values() if row["fileformat"] == "pcd"]
    drawn = 0
    for label in tables.by_token("sample_annotation").values():
        attributes = [names[token] for token in label["attribute_tokens"]]
        if attributes != ["vehicle.parked"] or label["num_lidar_pts"] < 60:
            continue
        sample = label["sample_token"]
        for row in sweeps:
            if row["sample_token"] == sample:
                assert inside(world_points(made, tables, row), label).sum() > 20
                drawn += not row["is_key_frame"]
    assert drawn


def test_the_vehicle_moves_and_turns(tables: Tables) -> None:
    poses = list(tables.by_token("ego_pose").values())
    places = np.array([pose["translation"] for pose in poses])
    turns = yaws(np.array([pose["rotation"] for pose in poses]))
    steps = np.linalg.norm(np.diff(places[:, :2], axis=0), axis=1)
    assert ((steps > 0.05) & (steps < 20)).any()
    assert len(np.unique(np.round(turns, 4))) > 4


def test_moving_objects_have_velocities(made: Path, tables: Tables) -> None:
    tokens = list(tables.by_token("sample"))
    boxes = read_truth(tables, tokens).boxes
    speed = np.linalg.norm(boxes.velocity, axis=1)
    assert np.nanmax(speed) > 2.0
    is_moving = boxes.attribute == "vehicle.moving"
    known = ~np.isnan(speed)
    assert speed[is_moving & known].min() > 0.5
    assert np.abs(speed[(boxes.attribute == "vehicle.parked") & known]).max() < 0.01
    # The labels of a vehicle point into the direction of its way.
    moving = is_moving & (speed > 2.0)
    directions = np.arctan2(boxes.velocity[moving, 1], boxes.velocity[moving, 0])
    np.testing.assert_allclose(np.cos(directions - yaws(boxes.rotation[moving])), 1.0, atol=0.01)


def test_labels_as_detections_score_full_marks(made: Path, tables: Tables) -> None:
    """The official evaluation of what the labels say: nothing is lost between writer and devkit."""
    pytest.importorskip("nuscenes.eval.detection.evaluate", reason="needs nuscenes-devkit")
    tokens = val_tokens(tables)
    truth = read_truth(tables, tokens)
    det_annos = [
        {"metadata": {"token": token}, "frame_id": token, **_in_lidar_frame(truth, number)}
        for number, token in enumerate(tokens)
    ]
    result = nuscenes_eval([{"token": token} for token in tokens], det_annos, made, VERSION)
    assert isinstance(result, NuScenesResult)
    assert result.computed_by.startswith("nuscenes-devkit")
    counted = filtered(truth.boxes, truth)
    for name in DETECTION_NAMES:
        expected = 1.0 if (counted.name == name).any() else 0.0
        assert result.class_ap(name) == pytest.approx(expected), name
    assert result.errors["car"]["trans_err"] == pytest.approx(0.0, abs=1e-9)
    assert result.errors["car"]["vel_err"] == pytest.approx(0.0, abs=1e-9)


def _in_lidar_frame(truth: Truth, number: int) -> dict[str, np.ndarray]:
    """The labels of a sample as perfect detections."""
    boxes = truth.boxes.select((truth.boxes.sample == number) & (truth.boxes.num_points > 0))
    centre = boxes.translation
    velocity = np.nan_to_num(np.column_stack([boxes.velocity, np.zeros(len(boxes))]))
    heading = yaws(boxes.rotation)
    poses: Poses = truth.poses
    for rotation, translation in (
        (poses.ego_rotation[number], poses.ego_translation[number]),
        (poses.sensor_rotation[number], poses.sensor_translation[number]),
    ):
        matrix = rotation_matrices(rotation)
        centre = (centre - translation) @ matrix
        velocity = velocity @ matrix
        heading = heading - yaws(rotation)
    columns = [centre, boxes.size[:, [1, 0, 2]], heading[:, None], velocity[:, :2]]
    return {
        "name": boxes.name,
        "score": np.linspace(0.9, 0.1, len(boxes)),
        "boxes_lidar": np.concatenate(columns, axis=1),
    }


def test_the_same_numbers_give_the_same_folder(made: Path, tmp_path: Path) -> None:
    """Also by several processes, and after an interruption."""
    again = make(tmp_path, workers=2) / VERSION
    first = digest(made)
    assert digest(again) == first
    (again / "scenes" / "scene-0553.json").unlink()
    next(iter(sorted((again / "sweeps" / "LIDAR_TOP").iterdir()))).unlink()
    (again / VERSION / "sample.json").unlink()
    make(tmp_path)
    assert digest(again) == first


def test_seeds_differ(made: Path, tmp_path: Path) -> None:
    other = make(tmp_path, seed=4, frames=2, val_frames=1, scene_frames=1) / VERSION
    one = sorted((made / "samples" / "LIDAR_TOP").iterdir())[0]
    two = sorted((other / "samples" / "LIDAR_TOP").iterdir())[0]
    assert one.read_bytes() != two.read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 0}, "frames: 0 requested"),
        ({"val_frames": 9}, "val_frames: 9 of 9"),
        ({"scene_frames": 0}, "scene_frames: 0 requested"),
        ({"sweeps": 11}, "sweeps: 11 requested, expected 1 to 10: lidar32 makes 10"),
        ({"seed": -1}, "seed: -1 is negative"),
        ({"version": "v1.0-tiny"}, "version: 'v1.0-tiny' cannot be simulated"),
        ({"sensor": "solid_state"}, "solid_state has a MOUNT"),
        ({"workers": -1}, "workers: -1"),
        (
            {"frames": 400, "val_frames": 80, "scene_frames": 10},
            "320 key frames for train need 32 scenes of 10, and v1.0-mini has 8",
        ),
    ],
)
def test_impossible_numbers(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_folder_made_from_other_numbers(made: Path) -> None:
    with pytest.raises(DataError, match="made with seed 3 instead of 5"):
        make(made.parent, seed=5)


def test_a_folder_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / VERSION).mkdir()
    (tmp_path / VERSION / "file").touch()
    with pytest.raises(DataError, match="was not made by this command"):
        make(tmp_path)


def test_a_damaged_record(made: Path, tmp_path: Path) -> None:
    (tmp_path / VERSION).mkdir()
    (tmp_path / VERSION / writer.MANIFEST).write_text("{")
    with pytest.raises(DataError, match="synthetic.json: is no json file"):
        make(tmp_path)


def test_the_command(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    flags = ["--frames", "2", "--val_frames", "1", "--scene_frames", "1", "--workers", "1"]
    main(["data", "synthetic", "--format", "nuscenes", "--out", out, *flags])
    manifest = json.loads((tmp_path / "out" / VERSION / writer.MANIFEST).read_text())
    assert manifest["sweeps"] == 10
    assert manifest["version"] == VERSION


@pytest.mark.parametrize(
    "flags",
    [
        ["--format", "nuscenes", "--scenes", "hard"],
        ["--format", "nuscenes", "--holdout_frames", "2"],
        ["--format", "nuscenes", "--sensor", "lidar32", "vlp16"],
        ["--scene_frames", "3"],
        ["--version", VERSION],
    ],
)
def test_flags_of_the_other_format(
    tmp_path: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["data", "synthetic", "--out", str(tmp_path / "out"), "--frames", "2", *flags])
    assert stopped.value.code == 2
    assert "is not for simulated data in the format" in capsys.readouterr().err
