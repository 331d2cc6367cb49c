"""KITTI's labels, tracklets and OpenPCDet's text, and which format a file is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pcdet_distill.datasets.custom.labels import LabelFile, LabelOptions, read_labels
from pcdet_distill.datasets.custom.labels.openpcdet_text import openpcdet_text
from pcdet_distill.errors import DataError

BOX = [10.0, 2.0, -0.5, 2.4, 1.2, 2.0, 0.5]
# The same box seen by a camera at the LiDAR: x right, y down, z forward, its bottom.
KITTI = f"Fork 0 0 0 0 0 50 50 2.0 1.2 2.4 -2.0 1.5 10.0 {-0.5 - np.pi / 2}"
CALIB = """P2: 700 0 600 0 0 700 180 0 0 0 1 0
R0_rect: 1 0 0 0 1 0 0 0 1
Tr_velo_to_cam: 0 -1 0 0.1 0 0 -1 -0.2 1 0 0 -0.3
"""


def write(path: Path, text: str) -> LabelFile:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return LabelFile(path, path.stem)


def test_kitti_with_the_calibration_beside_it(tmp_path: Path) -> None:
    file = write(tmp_path / "label_2" / "07.txt", f"{KITTI} 0.9\nDontCare -1 -1 -10 0 0 9 9\n")
    write(tmp_path / "calib" / "07.txt", CALIB)
    name, labels = read_labels([file], LabelOptions())
    assert name == "kitti"
    moved = [10.0 + 0.3, 2.0 + 0.1, -0.5 - 0.2, *BOX[3:]]
    np.testing.assert_allclose(labels.frames["07"].boxes, [moved], atol=1e-5)
    assert labels.frames["07"].names.tolist() == ["Fork"]


def test_kitti_without_calibration(tmp_path: Path) -> None:
    file = write(tmp_path / "07.txt", KITTI)
    with pytest.raises(DataError, match="camera coordinates.*--calib default.*--lidar_frame"):
        read_labels([file], LabelOptions())
    labels = read_labels([file], LabelOptions(calib="default"))[1]
    np.testing.assert_allclose(labels.frames["07"].boxes, [BOX], atol=1e-5)
    calib = write(tmp_path / "all.txt", CALIB)
    labels = read_labels([file], LabelOptions(calib=str(calib.path)))[1]
    assert labels.frames["07"].boxes[0, 0] == pytest.approx(10.3, abs=1e-5)


def test_kitti_lines_in_lidar_coordinates(tmp_path: Path) -> None:
    line = "Fork 0 0 0 0 0 0 0 2.0 1.2 2.4 10.0 2.0 -1.5 0.5"
    file = write(tmp_path / "07.txt", line)
    labels = read_labels([file], LabelOptions(lidar_frame=True))[1]
    np.testing.assert_allclose(labels.frames["07"].boxes, [BOX])
    labels = read_labels([file], LabelOptions(lidar_frame=True, box_z="centre"))[1]
    assert labels.frames["07"].boxes[0, 2] == -1.5


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("Fork lift 0 0 0 0 0 50 50 2.0 1.2 2.4 -2.0 1.5 10.0 0.1", "no spaces .write 'Fork_lift'"),
        (
            "Fork 0 0 0 0 0 50 50 2.0 1.2 2.4 -2.0 1.5 10.0",
            "line 2: has 14 fields, expected 15 or 16",
        ),
        (KITTI.replace("2.4", "long"), "line 2: its length is 'long'"),
        (KITTI.replace("2.4", "nan"), "line 2: its length is nan, expected a finite number"),
        (KITTI.replace("2.4", "-2.4"), "line 2: the sizes of 'Fork' are -2.4 x 1.2 x 2"),
    ],
)
def test_mistakes_in_kitti_lines(tmp_path: Path, line: str, words: str) -> None:
    file = write(tmp_path / "07.txt", f"{KITTI}\n{line}\n")
    with pytest.raises(DataError, match=words):
        read_labels([file], LabelOptions(calib="default"), "kitti")


TRACKLETS = """<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<!DOCTYPE boost_serialization>
<boost_serialization version="9" signature="serialization::archive">
<tracklets version="0" tracking_level="0" class_id="0">
  <count>1</count><item_version>1</item_version>
  <item version="1" tracking_level="0" class_id="1">
    <objectType>Fork</objectType>
    <h>{h}</h><w>{w}</w><l>{l}</l>
    <first_frame>3</first_frame>
    <poses version="0" tracking_level="0" class_id="2">
      <count>2</count><item_version>2</item_version>
      <item><tx>10</tx><ty>2</ty><tz>{tz}</tz><rx>0</rx><ry>0</ry><rz>0.5</rz>
        <state>2</state><occlusion>0</occlusion><truncation>0</truncation></item>
      <item><tx>11</tx><ty>2</ty><tz>{tz}</tz><rx>0</rx><ry>0</ry><rz>0.5</rz>
        <state>2</state><occlusion>-1</occlusion><truncation>2</truncation></item>
    </poses>
    <finished>1</finished>
  </item>
</tracklets>
</boost_serialization>
"""


def test_kittis_tracklets(tmp_path: Path) -> None:
    text = TRACKLETS.format(h=2.0, w=1.2, l=2.4, tz=-1.5)
    name, labels = read_labels([write(tmp_path / "tracklet_labels.xml", text)], LabelOptions())
    assert name == "tracklets"
    np.testing.assert_allclose(labels.frames["3"].boxes, [BOX])
    np.testing.assert_allclose(labels.frames["4"].boxes, [[11.0, *BOX[1:]]])


def test_cvats_tracklets_have_other_sizes_and_centres(tmp_path: Path) -> None:
    """CVAT writes its scale x, y, z into w, h, l, z as the centre, and fills gaps in tracks."""
    text = TRACKLETS.format(h=1.2, w=2.4, l=2.0, tz=-0.5)
    file = write(tmp_path / "tracklet_labels.xml", text)
    write(tmp_path / "frame_list.txt", "2 scan a\n3 scan_b\n4 scan_c\n")
    labels = read_labels([file], LabelOptions())[1]
    np.testing.assert_allclose(labels.frames["scan_b"].boxes, [BOX])
    counts = {frame: len(entry) for frame, entry in labels.frames.items()}
    assert counts == {"scan a": 0, "scan_b": 1, "scan_c": 0}
    assert "as CVAT writes it" in labels.notes[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<tracklets><item></tracklets>", "is no XML"),
        ("<boxes></boxes>", "has no <tracklets>"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><tracklets/>", "declares XML entities"),
        (TRACKLETS.format(h="", w=1, l=1, tz=0), "track 0: h is ''"),
    ],
)
def test_mistakes_in_tracklets(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError, match=f"tracklet_labels.xml.*{words}"):
        read_labels([write(tmp_path / "tracklet_labels.xml", text)], LabelOptions())


def test_openpcdets_text_is_read_as_it_is_written(tmp_path: Path) -> None:
    text = openpcdet_text(["Fork", "hand truck"], np.array([BOX, [9.0, *BOX[1:]]]))
    name, labels = read_labels([write(tmp_path / "07.txt", text)], LabelOptions())
    assert name == "openpcdet"
    assert labels.frames["07"].names.tolist() == ["Fork", "hand truck"]
    np.testing.assert_allclose(labels.frames["07"].boxes, [BOX, [9.0, *BOX[1:]]])


def test_the_format_is_that_of_the_first_file_with_labels(tmp_path: Path) -> None:
    files = [write(tmp_path / "01.txt", ""), write(tmp_path / "02.txt", "1 2 3 4 5 6 0 Fork\n")]
    name, labels = read_labels(files, LabelOptions())
    assert name == "openpcdet"
    assert {frame: len(entry) for frame, entry in labels.frames.items()} == {"01": 0, "02": 1}


def test_unknown_formats_are_named(tmp_path: Path) -> None:
    file = write(tmp_path / "01.txt", "hello\n")
    with pytest.raises(DataError, match="01.txt: is no known format of labels .'hello'"):
        read_labels([file], LabelOptions())
    with pytest.raises(Exception, match="--format: unknown name 'kiti'; did you mean 'kitti'"):
        read_labels([file], LabelOptions(), "kiti")


def angles(tmp_path: Path, headings: list[float], **options) -> np.ndarray:
    lines = [f"{index} 2 3 4 5 6 {angle} Fork\n" for index, angle in enumerate(headings)]
    file = write(tmp_path / "01.txt", "".join(lines))
    return read_labels([file], LabelOptions(**options))[1].frames["01"].boxes[:, 6]


def test_degrees_are_told_from_radians(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 of 4 headings are beyond .* 270.*--angles degrees"):
        angles(tmp_path, [0, 5, 90, 270])
    np.testing.assert_allclose(
        angles(tmp_path, [0, 90, 270], angles="degrees"), [0, np.pi / 2, -np.pi / 2]
    )
    # One heading in twenty that was counted on over a turn is no sign of degrees.
    wrapped = angles(tmp_path, [0.1] * 19 + [7.0])
    assert wrapped[-1] == pytest.approx(7.0 - 2 * np.pi)
    np.testing.assert_allclose(angles(tmp_path, [7.0], angles="radians"), [7.0 - 2 * np.pi])


def test_a_box_that_is_labelled_twice_is_kept_once(tmp_path: Path) -> None:
    line = "1 2 3 4 5 6 0 Fork\n"
    labels = read_labels([write(tmp_path / "01.txt", line * 2)], LabelOptions())[1]
    assert len(labels.frames["01"]) == 1
    assert "1 boxes are labelled twice" in labels.notes[-1]
    assert "01.txt, line 2" in labels.notes[-1]
