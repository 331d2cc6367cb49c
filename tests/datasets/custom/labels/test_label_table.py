"""Boxes in tables: headers by many names, units, delimiters, and every mistake by its line."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from pcdet_distill.datasets.custom.labels import LabelFile, LabelOptions, LabelSet, read_labels
from pcdet_distill.errors import DataError

BOX = [1.5, -2.0, 0.25, 2.4, 1.2, 2.0, 0.5]
NUMBERS = ",".join(map(str, BOX))


def read(tmp_path: Path, text: str, name: str = "labels.csv", **options) -> LabelSet:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read_labels([LabelFile(path, path.stem)], LabelOptions(**options))[1]


@pytest.mark.parametrize(
    "header",
    [
        "frame,class,x,y,z,length,width,height,yaw",
        "Filename,Label,Center X (m),Center Y (m),Center Z (m),L,W,H,Heading [rad]",
        "frame_id,category_name,cx,cy,cz,dx,dy,dz,rotation_z",
        "timestamp_ns,category,tx_m,ty_m,tz_m,length_m,width_m,height_m,rz",
        "cloud,objectType,position.x,position.y,position.z,scale.x,scale.y,scale.z,theta",
        "pcd,type,bbox_center_x,bbox_center_y,bbox_center_z,size_x,size_y,size_z,yaw_rad",
        "scan,name,pos x,pos y,pos z,dimensions_length,dimensions_width,dimensions_height,angle",
    ],
)
def test_headers_by_many_names(tmp_path: Path, header: str) -> None:
    labels = read(tmp_path, f"{header}\n0007,Forklift,{NUMBERS}\n")
    assert list(labels.frames) == ["0007"]
    assert labels.frames["0007"].names.tolist() == ["Forklift"]
    np.testing.assert_allclose(labels.frames["0007"].boxes, [BOX], atol=1e-9)
    assert labels.frames["0007"].where == (f"{tmp_path / 'labels.csv'}, line 2",)
    assert "heading = " in labels.notes[0]


def test_columns_in_any_order_and_unknown_ones(tmp_path: Path) -> None:
    text = "yaw,h,w,l,z,y,x,weather,class,frame,track_id\n0.5,2,1.2,2.4,0.25,-2,1.5,rain,Fork,a,9\n"
    entry = read(tmp_path, text).frames["a"]
    np.testing.assert_allclose(entry.boxes, [BOX])
    assert entry.ids is not None
    assert entry.ids.tolist() == ["9"]


@pytest.mark.parametrize("delimiter", [";", "\t", " "])
def test_other_delimiters(tmp_path: Path, delimiter: str) -> None:
    header = "class x y z l w h yaw".replace(" ", delimiter)
    line = f"Fork,{NUMBERS}".replace(",", delimiter)
    np.testing.assert_allclose(
        read(tmp_path, f"{header}\n{line}\n", "0001.csv").frames["0001"].boxes, [BOX]
    )


def test_decimal_commas_between_semicolons(tmp_path: Path) -> None:
    text = "class;x;y;z;l;w;h;yaw\nFork;1,5;-2,0;0,25;2,4;1,2;2,0;0,5\n"
    np.testing.assert_allclose(read(tmp_path, text).frames["labels"].boxes, [BOX])


def test_degrees_by_the_headers_unit_and_by_option(tmp_path: Path) -> None:
    line = NUMBERS.rsplit(",", 1)[0] + ",90"
    by_unit = read(tmp_path, f"class,x,y,z,l,w,h,yaw (deg)\nFork,{line}\n")
    assert by_unit.frames["labels"].boxes[0, 6] == pytest.approx(math.pi / 2)
    assert "converted from degrees" in by_unit.notes[1]
    told = read(tmp_path, f"class,x,y,z,l,w,h,yaw\nFork,{line}\n", angles="degrees")
    assert told.frames["labels"].boxes[0, 6] == pytest.approx(math.pi / 2)


def test_quaternions_and_a_bottom(tmp_path: Path) -> None:
    half = 0.25
    text = "class,x,y,z_bottom,l,w,h,qw,qx,qy,qz\n"
    text += f"Fork,1.5,-2,-0.75,2.4,1.2,2,{math.cos(half)},0,0,{math.sin(half)}\n"
    np.testing.assert_allclose(read(tmp_path, text).frames["labels"].boxes, [BOX], atol=1e-9)


def test_corners_are_boxes_without_heading(tmp_path: Path) -> None:
    text = "class,xmin,ymin,zmin,xmax,ymax,zmax\nFork,0,-1,0,2,1,3\n"
    labels = read(tmp_path, text)
    np.testing.assert_allclose(labels.frames["labels"].boxes, [[1, 0, 1.5, 2, 2, 3, 0]])
    assert "has no heading" in labels.notes[1]


def test_z_may_be_the_bottom_by_option(tmp_path: Path) -> None:
    labels = read(tmp_path, f"class,x,y,z,l,w,h,yaw\nFork,{NUMBERS}\n", box_z="bottom")
    assert labels.frames["labels"].boxes[0, 2] == pytest.approx(0.25 + 1.0)


def test_a_table_without_header_by_named_columns(tmp_path: Path) -> None:
    columns = ("frame", "-", "x", "y", "z", "dx", "dy", "dz", "yaw", "class")
    labels = read(tmp_path, f"0003,7,{NUMBERS},Fork lift\n", columns=columns)
    assert labels.frames["0003"].names.tolist() == ["Fork lift"]
    np.testing.assert_allclose(labels.frames["0003"].boxes, [BOX])


def test_one_table_a_frame_and_an_empty_one(tmp_path: Path) -> None:
    files = []
    for name, text in (("a", f"class,x,y,z,l,w,h,yaw\nFork,{NUMBERS}\n"), ("b", "")):
        path = tmp_path / f"{name}.csv"
        path.write_text(text)
        files.append(LabelFile(path, name))
    name, labels = read_labels(files, LabelOptions())
    assert name == "csv"
    assert {frame: len(entry) for frame, entry in labels.frames.items()} == {"a": 1, "b": 0}


def test_paths_in_the_frame_column_are_their_stems(tmp_path: Path) -> None:
    text = "file,class,x,y,z,l,w,h,yaw\n"
    text += f"seq1/lidar/0001.pcd,Fork,{NUMBERS}\n..\\seq2\\0001.pcd,Fork,{NUMBERS}\n"
    assert list(read(tmp_path, text).frames)[0] == "seq1/0001"


def test_feather_as_argoverse_writes_it(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import feather

    columns = {
        "timestamp_ns": [315966265259836000],
        "track_uuid": ["u1"],
        "category": ["BUS"],
        "length_m": [BOX[3]],
        "width_m": [BOX[4]],
        "height_m": [BOX[5]],
        "qw": [math.cos(0.25)],
        "qx": [0.0],
        "qy": [0.0],
        "qz": [math.sin(0.25)],
        "tx_m": [BOX[0]],
        "ty_m": [BOX[1]],
        "tz_m": [BOX[2]],
        "num_interior_pts": [12],
    }
    path = tmp_path / "annotations.feather"
    feather.write_feather(pyarrow.table(columns), path)
    labels = read_labels([LabelFile(path, "annotations")], LabelOptions())[1]
    np.testing.assert_allclose(labels.frames["315966265259836000"].boxes, [BOX], atol=1e-9)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"class,x,y,z,l,w,h,yaw\nFork,{NUMBERS},9\n", ["line 2", "has 9 columns, expected 8"]),
        ("class,x,y,z,l,w,h,yaw\n\nFork,1,2,3,4,5,6,left\n", ["line 3", "'yaw' is 'left'"]),
        (
            "class,x,y,z,l,w,h,yaw\nFork,1,2,nan,4,5,6,0\n",
            ["line 2", "'z' is nan, expected a finite number"],
        ),
        ("class,x,y,z,l,w,h,yaw\nFork,1,2,3,4,-5,6,0\n", ["line 2", "4 x -5 x 6", "above 0"]),
        ("class,x,y,z,l,w,h,yaw\nFork,1,2,3,4,0,6,0\n", ["line 2", "4 x 0 x 6"]),
        ("class,x,y,z,l,w,h,yaw\nFork,1,2,3,4500,1800,1500,0\n", ["line 2", "metres"]),
        ("class,x,y,z,l,w,h,yaw\n,1,2,3,4,5,6,0\n", ["line 2", "class", "empty"]),
        (f"class,x,y,z,l,w,h,yaw\n{'F' * 200_000},1\n", ["line 2", "no line of a table"]),
        ("class,x,y,z,l,w,yaw\nFork,1,2,3,4,5,0\n", ["labels.csv", "no column for dz"]),
        ("x,y,z,l,w,h,yaw\n1,2,3,4,5,6,0\n", ["no column for class among x, y, z"]),
        ("frame,class,x,y,z,l,w,h,rotation_y\na,F,1,2,3,4,5,6,0\n", ["camera's y axis"]),
        (f"0001,Fork,{NUMBERS}\n", ["line 1", "--label_columns"]),
        (f"frame,class,x,y,z,l,w,h,yaw\n,Fork,{NUMBERS}\n", ["line 2", "frame 'frame' is empty"]),
    ],
)
def test_mistakes_are_named_by_their_line(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, text)
    for word in ["labels.csv", *words]:
        assert word in str(caught.value)


def test_a_file_that_is_no_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes("class,x,y,z,l,w,h,yaw\nFußgänger,1,2,3,4,5,6,0\n".encode("latin1"))
    with pytest.raises(DataError, match="labels.csv: is no text in UTF-8"):
        read_labels([LabelFile(path, "labels")], LabelOptions())
