"""Spoiled points, splits and class names: every spoiling is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from doctor_toys import ToyData, ToyDataset, ToyFrame, alarms, find, named

from pcdet_distill.apps.doctor import Severity

POINT_CHECKS = ("reading", "columns", "intensity", "leaks", "classes")


def test_healthy_points_are_not_reported(frames: ToyData) -> None:
    assert alarms(find(frames.copy(), checks=POINT_CHECKS)) == []


def test_an_unreadable_frame_is_named_with_its_reason(frames: ToyData) -> None:
    data = frames.copy()
    data.train[1].error = "frame.bin: 7 bytes are not a whole number of points"
    findings = find(data, checks=POINT_CHECKS)
    assert named(findings, "reading", Severity.WARNING, data.train[1].name, "7 bytes")


def test_empty_and_cut_off_clouds_are_named(frames: ToyData) -> None:
    data = frames.copy()
    data.train[1].points = data.train[1].points[:0]
    data.train[2].points = data.train[2].points[:40]
    findings = find(data, checks=("reading",))
    assert named(findings, "reading", Severity.WARNING, data.train[1].name, "no points")
    assert named(findings, "reading", Severity.WARNING, data.train[2].name, "cut off")


def test_files_of_another_size_than_their_info_says_are_named(
    frames: ToyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = frames.copy()
    file = tmp_path / "cut.bin"
    file.write_bytes(bytes(160))

    def recorded_size(dataset: ToyDataset, index: int) -> tuple[Path, int]:
        return file, 320 if dataset.frame_name(index) == data.train[2].name else 160

    monkeypatch.setattr(ToyDataset, "recorded_size", recorded_size)
    findings = find(data, checks=("reading",))
    words = (data.train[2].name, "cut.bin has 160 bytes and not 320")
    assert named(findings, "reading", Severity.WARNING, *words)
    assert len(alarms(findings)) == 1


def test_labels_without_objects_are_named(frames: ToyData) -> None:
    data = frames.copy()
    for frame in data.train[:-1]:
        frame.boxes = frame.boxes[:0]
        frame.names = frame.names[:0]
    assert named(find(data, checks=("reading",)), "reading", Severity.WARNING, "without any object")


def test_nan_is_named_with_its_column_and_frame(frames: ToyData) -> None:
    data = frames.copy()
    data.train[4].points[:30, 2] = np.nan
    findings = find(data, checks=("columns",))
    assert named(findings, "columns", Severity.ERROR, "column z", data.train[4].name, "NaN")


def test_a_constant_column_is_named_and_left_out_by_the_fix(frames: ToyData) -> None:
    data = frames.copy()
    for frame in data.frames:
        frame.points[:, 3] = 0.0
    findings = find(data, checks=("columns",))
    assert named(findings, "columns", Severity.WARNING, "column intensity", "every point")
    changes = findings[0].changes
    assert changes == {"DATA_CONFIG.POINT_FEATURE_ENCODING.used_feature_list": ["x", "y", "z"]}


def test_files_of_five_columns_that_are_read_as_four_are_named(frames: ToyData) -> None:
    data = frames.copy()
    for frame in data.frames:
        wide = np.column_stack([frame.points, np.arange(len(frame.points)) % 64])
        flat = wide.astype(np.float32).ravel()
        frame.points = flat[: len(flat) // 4 * 4].reshape(-1, 4)
    findings = find(data, checks=("columns",))
    assert named(findings, "columns", Severity.ERROR, "seem to have 5 columns", "read with 4")


def test_another_number_of_columns_is_named(frames: ToyData) -> None:
    data = frames.copy()
    for frame in data.frames:
        frame.points = np.column_stack([frame.points, frame.points[:, 3]])
    findings = find(data, checks=("columns",))
    assert named(findings, "columns", Severity.WARNING, "5 columns", "names 4")


@pytest.mark.parametrize("factor", [100, 1 / 100, 39.4])
def test_some_clouds_in_another_unit_are_named(frames: ToyData, factor: float) -> None:
    data = frames.copy()
    for frame in data.train[1:3]:
        frame.points[:, :3] *= factor
    findings = find(data, checks=("columns",))
    words = (data.train[1].name, f"of 2 of {len(data.train)} frames reach", "another unit")
    assert named(findings, "columns", Severity.ERROR, *words)
    assert len(alarms(findings)) == 1


def test_points_in_millimetres_are_named(frames: ToyData) -> None:
    data = frames.copy()
    for frame in data.frames:
        frame.points[:, :3] *= 1000
    assert named(find(data, checks=("columns",)), "columns", Severity.ERROR, "not in metres")


def test_intensities_of_two_scales_are_named(frames: ToyData) -> None:
    data = frames.copy()
    for frame in data.train[:5]:
        frame.points[:, 3] *= 255
    mixed = find(data, checks=("intensity",))
    assert named(mixed, "intensity", Severity.ERROR, data.train[0].name, "another scale")
    data = frames.copy()
    for frame in data.val:
        frame.points[:, 3] *= 255
    assert named(find(data, checks=("intensity",)), "intensity", Severity.ERROR, "train and val")


def test_intensities_to_255_are_a_warning_for_kitti_and_a_note_elsewhere(frames: ToyData) -> None:
    data = frames.copy()
    for frame in data.frames:
        frame.points[:, 3] *= 255
    elsewhere = find(data, checks=("intensity",))
    assert alarms(elsewhere) == []
    assert named(elsewhere, "intensity", Severity.NOTE, "0 to 255")


def test_frames_of_both_splits_are_named_by_their_points(frames: ToyData) -> None:
    data = frames.copy()
    old = data.train[0]
    data.val[2] = ToyFrame("another_name", old.points, old.boxes, old.names)
    findings = find(data, checks=("leaks",))
    assert named(findings, "leaks", Severity.ERROR, f"another_name = {old.name} of train")


def test_frames_of_both_splits_are_named_by_their_names(frames: ToyData) -> None:
    data = frames.copy()
    data.val.append(data.train[3])
    findings = find(data, checks=("leaks",))
    assert named(findings, "leaks", Severity.ERROR, data.train[3].name, "also trained on")


def test_nearly_equal_frames_are_named(frames: ToyData) -> None:
    data = frames.copy()
    old = data.train[0]
    random = np.random.default_rng(0)
    points = old.points[random.permutation(len(old.points))[: len(old.points) * 9 // 10]].copy()
    points[:, :3] += random.normal(0, 0.02, (len(points), 3))
    data.val[1] = ToyFrame("noisy", points.astype(np.float32), old.boxes, old.names)
    findings = find(data, checks=("leaks",))
    assert named(findings, "leaks", Severity.WARNING, "noisy", "nearly equal")


def test_copies_within_a_split_are_named(frames: ToyData) -> None:
    data = frames.copy()
    data.train[5].points = data.train[2].points.copy()
    findings = find(data, checks=("leaks",))
    assert named(findings, "leaks", Severity.WARNING, data.train[2].name, "same points")


def test_recordings_in_both_splits_are_named(frames: ToyData) -> None:
    data = frames.copy()
    for number, frame in enumerate(data.frames):
        frame.name = f"drive{number % 3}_{number:06d}"
    findings = find(data, checks=("leaks",))
    assert named(findings, "leaks", Severity.WARNING, "drive0_", "recordings")
    for part, name in ((data.train, "morning"), (data.val, "evening")):
        for number, frame in enumerate(part):
            frame.name = f"{name}_{number:06d}"
    assert alarms(find(data, checks=("leaks",))) == []


def test_another_spelling_of_a_class_is_named_and_mended(frames: ToyData) -> None:
    data = frames.copy()
    for frame in data.frames:
        frame.names = np.char.lower(frame.names)
    findings = find(data, checks=("classes",))
    assert named(findings, "classes", Severity.ERROR, "'Car'", "did you mean 'car'")
    car = next(finding for finding in findings if "'Car'" in finding.where)
    assert car.changes["CLASS_NAMES"] == ["car", "Pedestrian", "Cyclist"]
    path = "MODEL.DENSE_HEAD.ANCHOR_GENERATOR_CONFIG.0.class_name"
    assert car.changes[path] == "car"


def test_two_spellings_of_one_class_are_named(frames: ToyData) -> None:
    data = frames.copy()
    for frame in data.frames[::3]:
        frame.names = np.where(frame.names == "Car", "car ", frame.names)
    findings = find(data, checks=("classes",))
    assert named(findings, "classes", Severity.WARNING, "'Car'", "'car '", "2 ways")


def test_a_class_that_nobody_labelled_is_named(frames: ToyData) -> None:
    findings = find(
        frames.copy(), lambda cfg: cfg.CLASS_NAMES.append("Forklift"), checks=("classes",)
    )
    assert named(findings, "classes", Severity.ERROR, "'Forklift'", "cannot be learnt")
    assert named(findings, "classes", Severity.NOTE, "Truck", "not trained")
