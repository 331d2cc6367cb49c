"""Records: what is collected, what is stored, what is read back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toy_evaluation import found, random_evaluation, toy_evaluation, truth

from pcdet_distill.errors import DataError
from pcdet_distill.report.collect import NUM_SCENES, collect
from pcdet_distill.report.record import FILE, read_record, write_record
from pcdet_distill.report.scenes import MOST_STORED, pack_points, unpack_points


def test_a_record_comes_back_as_it_was(tmp_path: Path):
    record = collect(toy_evaluation(truth(), found(), teacher_annos=found()))
    record = replace(record, teacher=record.as_teacher())
    write_record(record, tmp_path)
    assert read_record(tmp_path / FILE) == record
    assert [entry.name for entry in tmp_path.iterdir()] == [FILE]


def test_the_errors_of_every_frame_and_the_worst_frames():
    record = collect(toy_evaluation(truth(), found()))
    assert record.errors == {"a": [3, 1, 0, 1], "b": [0, 0, 0, 0], "c": [0, 0, 1, 0]}
    assert [scene.frame_id for scene in record.scenes] == ["a", "c"]
    scene = record.scenes[0]
    assert scene.objects.verdicts == ["found", "inexact", "missed"]
    assert scene.detections.scores == [0.9, 0.8]
    assert scene.teacher is None


def test_the_teachers_boxes_of_the_same_frames():
    perfect = [
        {
            "frame_id": anno["frame_id"],
            "name": anno["name"],
            "boxes_lidar": anno["gt_boxes_lidar"],
            "score": np.full(len(anno["name"]), 0.9),
        }
        for anno in truth()
    ]
    strangers = [{**perfect[0], "frame_id": "of another split"}]
    record = collect(toy_evaluation(truth(), found(), teacher_annos=perfect + strangers))
    assert record.scenes[0].found_by_teacher == ["found", "found", "found"]
    assert record.scenes[0].teacher.names == ["Car", "Car", "Pedestrian"]


def test_at_most_ten_frames_are_stored():
    record = collect(toy_evaluation(*random_evaluation(num_frames=40)))
    counts = [sum(record.errors[scene.frame_id][1:]) for scene in record.scenes]
    assert len(counts) == NUM_SCENES
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == max(sum(each[1:]) for each in record.errors.values())


def test_without_labels_there_are_no_figures():
    record = collect(toy_evaluation(truth(), found(), result=None))
    assert not record.tables and not record.scenes and record.num_frames == 3


def test_points_that_cannot_be_read_leave_a_frame_without_points():
    record = collect(toy_evaluation(truth(), found(), read_points=lambda frame_id: None))
    assert record.scenes[0].points == ""
    assert len(unpack_points("")) == 0


def test_points_keep_their_centimetres():
    points = np.random.default_rng(0).uniform(-80, 80, (500, 3))
    np.testing.assert_allclose(unpack_points(pack_points(points)), points, atol=0.0051)
    many = np.random.default_rng(0).uniform(-80, 80, (3 * MOST_STORED, 3))
    assert len(unpack_points(pack_points(many))) == MOST_STORED


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("not json", "not the data of a report"),
        ("[]", "not the data of a report"),
        (json.dumps({"format": 1}), "not the data of a report"),
        (json.dumps({"format": 99}), "has format 99, expected 1"),
    ],
)
def test_a_file_that_is_no_record_is_refused(tmp_path: Path, content: str, words: str):
    file = tmp_path / FILE
    file.write_text(content)
    with pytest.raises(DataError, match=words):
        read_record(file)
