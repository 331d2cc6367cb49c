"""Boxes in JSON: the usual shapes, those of annotation tools, and every mistake by its place."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from pcdet_distill.datasets.custom.labels import LabelFile, LabelOptions, LabelSet, read_labels
from pcdet_distill.errors import DataError

BOX = [1.5, -2.0, 0.25, 2.4, 1.2, 2.0, 0.5]
XYZ = dict(zip("xyz", BOX[:3]))
LWH = {"length": 2.4, "width": 1.2, "height": 2.0}
TURN = [math.cos(0.25), 0.0, 0.0, math.sin(0.25)]


def read(tmp_path: Path, content: object, **options) -> tuple[str, LabelSet]:
    path = tmp_path / "0001.json"
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return read_labels([LabelFile(path, "0001")], LabelOptions(**options))


SUSTECH = {
    "obj_id": "5",
    "obj_type": "Fork",
    "psr": {
        "position": XYZ,
        "scale": {"x": 2.4, "y": 1.2, "z": 2.0},
        "rotation": {"x": 0.01, "y": 0.02, "z": 0.5},
    },
}
LABELCLOUD = {
    "folder": "pointclouds",
    "filename": "0001.pcd",
    "path": "pointclouds/0001.pcd",
    "objects": [
        {
            "name": "Fork",
            "centroid": XYZ,
            "dimensions": LWH,
            "rotations": {"x": 0, "y": 0, "z": 0.5},
        }
    ],
}
ONE_FRAME = {
    "SUSTechPOINTS": [SUSTECH],
    "SUSTechPOINTS with a frame": {"frame": "0001", "objs": "x", "objects": [SUSTECH]},
    "labelCloud": LABELCLOUD,
    "flat": [{"class": "Fork", **dict(zip(("x", "y", "z", "l", "w", "h", "yaw"), BOX))}],
    "seven numbers": {"annotations": [{"label": "Fork", "box": BOX}]},
    "vectors": {"labels": [{"type": "Fork", "center": BOX[:3], "size": BOX[3:6], "yaw": 0.5}]},
    "three angles": [
        {"category": "Fork", "position": XYZ, "dimensions": BOX[3:6], "rotation": [0, 0, 0.5]}
    ],
    "a quaternion": [{"name": "Fork", "location": BOX[:3], "lwh": BOX[3:6], "rotation": TURN}],
    "a quaternion by parts": [
        {
            "category": "Fork",
            "position": XYZ,
            "dimensions": {"x": 2.4, "y": 1.2, "z": 2.0},
            "rotation": dict(zip(("qw", "qx", "qy", "qz"), TURN)),
        }
    ],
    "letters": [
        {"label": "Fork", "center": XYZ, "size": {"l": 2.4, "w": 1.2, "h": 2.0}, "rpy": [0, 0, 0.5]}
    ],
    "widths first": [{"class": "Fork", "xyz": BOX[:3], "wlh": [1.2, 2.4, 2.0], "heading": 0.5}],
    "nuScenes' keys": [
        {
            "detection_name": "Fork",
            "category": "Fork",
            "translation": BOX[:3],
            "size": [1.2, 2.4, 2.0],
            "rotation": TURN,
        }
    ],
    "parallel lists": {"gt_boxes": [BOX], "gt_names": ["Fork"]},
    "nested class": {"cuboids": [{"label": {"name": "Fork"}, "cuboid": BOX}]},
}


@pytest.mark.parametrize("shape", ONE_FRAME)
def test_shapes_of_one_frame(tmp_path: Path, shape: str) -> None:
    name, labels = read(tmp_path, ONE_FRAME[shape])
    assert name == "json"
    assert list(labels.frames) == ["0001"]
    assert labels.frames["0001"].names.tolist() == ["Fork"]
    np.testing.assert_allclose(labels.frames["0001"].boxes, [BOX], atol=1e-9)


BOXES = [{"class": "Fork", "box": BOX}]
MANY_FRAMES = {
    "by name": {"a": BOXES, "b.pcd": []},
    "named objects": {"frames": [{"frame_id": "a", "objects": BOXES}, {"id": "b", "labels": []}]},
    "by name below": {"data": {"a": {"objects": BOXES}, "b": {"objects": []}}},
    "with other keys": {
        "version": 2,
        "frames": [
            {"filename": "x/a.bin", "annotations": BOXES, "weather": "rain"},
            {"filename": "x/b.bin", "annotations": []},
        ],
    },
}


@pytest.mark.parametrize("shape", MANY_FRAMES)
def test_shapes_of_many_frames(tmp_path: Path, shape: str) -> None:
    labels = read(tmp_path, MANY_FRAMES[shape])[1]
    counts = {frame.rsplit("/", 1)[-1]: len(entry) for frame, entry in labels.frames.items()}
    assert counts == {"a": 1, "b": 0}


def test_boxes_that_name_their_frames(tmp_path: Path) -> None:
    content = [{"frame": 12, **BOXES[0]}, {"frame": 3, **BOXES[0]}, {"frame": 12, **BOXES[0]}]
    content[2]["box"] = [9, *BOX[1:]]
    labels = read(tmp_path, content)[1]
    assert {frame: len(entry) for frame, entry in labels.frames.items()} == {"12": 2, "3": 1}


def test_an_empty_list_is_a_frame_without_objects(tmp_path: Path) -> None:
    (tmp_path / "0000.json").write_text(json.dumps(BOXES))
    (tmp_path / "0001.json").write_text("[]")
    files = [LabelFile(tmp_path / f"{frame}.json", frame) for frame in ("0000", "0001")]
    labels = read_labels(files, LabelOptions())[1]
    assert {frame: len(entry) for frame, entry in labels.frames.items()} == {"0000": 1, "0001": 0}


def test_classes_by_number(tmp_path: Path) -> None:
    content = {
        "categories": [{"id": 0, "name": "Fork"}, {"id": 1, "name": "Person"}],
        "annotations": [{"id": 7, "category_id": 0, "box": BOX}],
    }
    assert read(tmp_path, content)[1].frames["0001"].names.tolist() == ["Fork"]
    content = {"class_names": ["Person", "Fork"], "boxes": [BOX, BOX[::-1]], "labels": [1, 0]}
    content["boxes"][1] = [9, *BOX[1:]]
    assert read(tmp_path, content)[1].frames["0001"].names.tolist() == ["Fork", "Person"]


def test_ids_are_kept(tmp_path: Path) -> None:
    ids = read(tmp_path, [SUSTECH])[1].frames["0001"].ids
    assert ids is not None
    assert ids.tolist() == ["5"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"weather": "rain"}, ["0001.json", "holds no boxes"]),
        ([{"class": "Fork", "box": [1, 2, 3]}], ["0001.json", "holds no boxes"]),
        ({"objects": [{"x": 1, "y": 2, "z": 3, "class": "Fork"}]}, ["box 0", "dx, dy"]),
        ([{"box": BOX}], ["box 0", "no column for class"]),
        (
            [{"class": "Fork", "box": [*BOX[:6], "left"]}],
            ["box 0", "'left', expected a finite number"],
        ),
        ([{"class": "Fork", "box": [*BOX[:5], -2, 0]}], ["box 0", "-2", "above 0"]),
        ({"gt_boxes": [BOX, BOX], "gt_names": ["Fork"]}, ["2 boxes and 1 names"]),
        ([SUSTECH, SUSTECH], ["box 1", "id '5' is used twice", "box 0", "--ignore_ids"]),
    ],
)
def test_mistakes_are_named_by_their_place(tmp_path: Path, content, words: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, content)
    for word in ["0001.json", *words]:
        assert word in str(caught.value)


def test_broken_json_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "0001.json"
    path.write_text('[\n {"class": "Fork",\n')
    with pytest.raises(DataError, match=r"0001.json, line 3: is no JSON"):
        read_labels([LabelFile(path, "0001")], LabelOptions())


def sly_figure(key: str) -> dict:
    return {
        "key": f"figure of {key}",
        "objectKey": key,
        "geometryType": "cuboid_3d",
        "geometry": {
            "position": XYZ,
            "rotation": {"x": 0, "y": 0, "z": 0.5},
            "dimensions": {"x": 2.4, "y": 1.2, "z": 2.0},
        },
    }


def test_supervisely_and_cvats_sly_point_cloud(tmp_path: Path) -> None:
    content = {
        "description": "",
        "key": "f",
        "tags": [],
        "objects": [{"key": "o1", "classTitle": "Fork"}],
        "figures": [sly_figure("o1"), {"objectKey": "o1", "geometryType": "point_cloud"}],
    }
    name, labels = read(tmp_path, content)
    assert name == "sly"
    assert labels.frames["0001"].names.tolist() == ["Fork"]
    np.testing.assert_allclose(labels.frames["0001"].boxes, [BOX])
    content["figures"].append(sly_figure("o2"))
    with pytest.raises(DataError, match="figure 2: its object 'o2' is not among 'objects'"):
        read(tmp_path, content)


def test_supervisely_episodes_name_frames_by_their_map(tmp_path: Path) -> None:
    folder = tmp_path / "episode_1"
    folder.mkdir()
    content = {
        "objects": [{"key": "o1", "classTitle": "Fork"}],
        "frames": [
            {"index": 0, "figures": [sly_figure("o1")]},
            {"index": 2, "figures": []},
        ],
    }
    (folder / "annotation.json").write_text(json.dumps(content))
    names = {"0": "scan_a.pcd", "2": "scan_c.pcd"}
    (folder / "frame_pointcloud_map.json").write_text(json.dumps(names))
    file = LabelFile(folder / "annotation.json", "episode_1/annotation")
    labels = read_labels([file], LabelOptions())[1]
    counts = {frame: len(entry) for frame, entry in labels.frames.items()}
    assert counts == {"episode_1/scan_a": 1, "episode_1/scan_c": 0}


def test_datumaro(tmp_path: Path) -> None:
    cuboid = {
        "id": 0,
        "type": "cuboid_3d",
        "attributes": {"track_id": 4, "occluded": False},
        "group": 0,
        "label_id": 1,
        "position": BOX[:3],
        "rotation": [0.0, 0.0, 0.5],
        "scale": BOX[3:6],
    }
    content = {
        "info": {},
        "categories": {"label": {"labels": [{"name": "Person"}, {"name": "Fork"}]}},
        "items": [
            {"id": "scan_a", "annotations": [cuboid], "point_cloud": {"path": "scan_a.pcd"}},
            {"id": "scan_b", "annotations": []},
        ],
    }
    name, labels = read(tmp_path, content)
    assert name == "datumaro"
    assert labels.frames["scan_a"].names.tolist() == ["Fork"]
    np.testing.assert_allclose(labels.frames["scan_a"].boxes, [BOX])
    assert len(labels.frames["scan_b"]) == 0
    cuboid["label_id"] = 2
    with pytest.raises(DataError, match="item scan_a, annotation 0: label_id 2 is none of its 2"):
        read(tmp_path, content)
