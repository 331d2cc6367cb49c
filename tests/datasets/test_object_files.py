"""Files and entries of a ground-truth database, as every data set writes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pcdet_distill.datasets.object_files import points_of_first_box, write_object_files

BOXES = np.array(
    [
        [5.0, 0.0, 0.0, 4.0, 2.0, 2.0, 0.0, 1.5, 0.0],
        [6.0, 0.5, 0.0, 4.0, 2.0, 2.0, 0.0, 0.0, 0.0],
        [-9.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0],
    ]
)
POINTS = np.array(
    [
        [5.0, 0.5, 0.5, 0.1],  # in the first two boxes
        [3.5, 0.0, 0.0, 0.2],  # in the first
        [7.5, 1.0, 0.0, 0.3],  # in the second
        [20.0, 0.0, 0.0, 0.4],  # in none
    ],
    dtype=np.float32,
)


def test_a_point_in_two_boxes_belongs_to_the_first() -> None:
    masks = points_of_first_box(POINTS, BOXES)
    assert [mask.tolist() for mask in masks] == [
        [True, True, False, False],
        [False, False, True, False],
        [False, False, False, False],
    ]


def test_files_and_entries(tmp_path: Path) -> None:
    before = POINTS.copy()
    entries = write_object_files(
        tmp_path,
        "0007",
        points=POINTS,
        names=np.array(["car", "fork lift", "a/b"]),
        boxes=BOXES,
        centres=BOXES[:, :3],
        inside=points_of_first_box(POINTS, BOXES),
    )
    np.testing.assert_array_equal(POINTS, before)
    assert [entry["name"] for entry in entries] == ["car", "fork lift", "a/b"]
    assert [entry["num_points_in_gt"] for entry in entries] == [2, 1, 0]
    assert [entry["gt_idx"] for entry in entries] == [0, 1, 2]
    assert {entry["image_idx"] for entry in entries} == {"0007"}
    np.testing.assert_array_equal(entries[0]["box3d_lidar"], BOXES[0])
    names = ["0007_car_0.bin", "0007_fork_lift_1.bin", "0007_a_b_2.bin"]
    assert [entry["path"] for entry in entries] == [f"{tmp_path.name}/{name}" for name in names]
    first = np.fromfile(tmp_path / names[0], np.float32).reshape(-1, 4)
    np.testing.assert_allclose(first, [[0, 0.5, 0.5, 0.1], [-1.5, 0, 0, 0.2]])
    assert (tmp_path / names[2]).read_bytes() == b""
