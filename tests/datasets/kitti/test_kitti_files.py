"""Reading KITTI's files: their content, and one sentence for every mistake in them."""

from __future__ import annotations

import os
import pickle
import struct
import time
from pathlib import Path

import numpy as np
import pytest

from pcdet_distill.datasets.kitti.calibration import Calibration
from pcdet_distill.datasets.kitti.folder import KittiFolder, read_png_shape, read_road_plane
from pcdet_distill.datasets.kitti.object3d import Object3d, read_labels
from pcdet_distill.datasets.point_files import check_point_file, read_points
from pcdet_distill.datasets.safe_pickle import load_plain_pickle
from pcdet_distill.errors import DataError

LINE = "Car 0.00 1 2.04 334.85 178.94 624.50 372.04 1.57 1.50 3.68 -1.17 1.65 7.86 1.90"


def test_calibration_axes(tiny) -> None:
    tiny.frame("000000", [])
    calib = Calibration.from_file(tiny.path("calib", "000000"))
    rect = calib.lidar_to_rect(np.array([[10.27, 2.0, -1.0]], dtype=np.float32))
    np.testing.assert_allclose(rect, [[-2.0, 0.92, 10.0]], atol=1e-5)
    pixels, depth_m = calib.rect_to_img(rect)
    u = (721.5 * -2 + 609.6 * 10 + 44.9) / 10
    v = (721.5 * 0.92 + 172.9 * 10 + 0.2) / 10
    np.testing.assert_allclose(pixels, [[u, v]], rtol=1e-6)
    np.testing.assert_allclose(depth_m, [10.0], rtol=1e-6)


def test_calibration_survives_an_info(tiny) -> None:
    tiny.frame("000000", [])
    calib = Calibration.from_file(tiny.path("calib", "000000"))
    again = Calibration.from_info(calib.to_info())
    for name in ("P2", "R0", "V2C"):
        np.testing.assert_array_equal(getattr(again, name), getattr(calib, name))
    assert calib.to_info()["Tr_velo_to_cam"].shape == (4, 4)


def test_points_behind_the_camera_are_not_in_the_image(tiny) -> None:
    tiny.frame("000000", [])
    calib = Calibration.from_file(tiny.path("calib", "000000"))
    rect = np.array([[0, 0, 10], [0, 0, -10], [50, 0, 10], [0, 50, 10]], dtype=np.float32)
    assert calib.in_image(rect, np.array([375, 1242])).tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        ("P2: 1 2 3\n", "expected 12"),
        ("R0_rect: 1 0 0 0 1 0 0 0 1\n", "'P2:' is missing"),
        ("P2: " + "x " * 12, "line 1: 'P2:' holds 'x', expected finite numbers"),
        (
            "P2: 7 0 6 0 0 7 1 0 0 0 1 0\n"
            "R0_rect: 1 0 0 0 1 0 0 0 0\n"
            "Tr_velo_to_cam: 0 -1 0 0 0 0 -1 0 1 0 0 0\n",
            "'R0_rect:' cannot be inverted",
        ),
    ],
)
def test_bad_calibration_names_the_file(tmp_path: Path, content: str | None, words: str) -> None:
    path = tmp_path / "000007.txt"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=words) as caught:
        Calibration.from_file(path)
    assert str(path) in str(caught.value)


def test_label_line() -> None:
    entry = Object3d.from_line(LINE, "here")
    assert entry.cls_type == "Car"
    assert (entry.truncation, entry.occlusion, entry.alpha) == (0.0, 1.0, 2.04)
    assert (entry.h, entry.w, entry.l, entry.ry, entry.score) == (1.57, 1.5, 3.68, 1.9, -1.0)
    np.testing.assert_allclose(entry.loc, [-1.17, 1.65, 7.86], rtol=1e-6)
    assert Object3d.from_line(LINE + " 0.75", "here").score == 0.75


@pytest.mark.parametrize(
    ("height_px", "truncation", "occlusion", "level"),
    [
        (39, 0.0, 0, 0),
        (38.9, 0.0, 0, 1),
        (50, 0.2, 0, 1),
        (50, 0.0, 1, 1),
        (50, 0.4, 0, 2),
        (50, 0, 2, 2),
        (50, 0, 3, -1),
        (24, 0, 0, 1),
        (23.9, 0, 0, -1),
        (50, 0.51, 0, -1),
    ],
)
def test_difficulty_adds_a_pixel_to_the_height(
    height_px: float, truncation: float, occlusion: int, level: int
) -> None:
    line = f"Car {truncation} {occlusion} 0 0 100 50 {100 + height_px} 1.5 1.6 4 0 1.6 20 0"
    assert Object3d.from_line(line, "here").difficulty == level


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("Car 0 0 0 1 2 3", "has 7 fields, expected 15 or 16: type truncated occluded"),
        (LINE + " 1 2", "has 17 fields, expected 15 or 16"),
        (LINE.replace("Car", "Carr"), "'Car'"),
        (LINE.replace("7.86", "far"), "its z is 'far', expected a finite number"),
        (LINE.replace("7.86", "nan"), "its z is nan, expected a finite number"),
        (LINE.replace("7.86", "7e300"), "beyond float32"),
        (LINE.replace("1.57", "-1.57"), "its height is -1.57, expected a finite number from 0 up"),
    ],
)
def test_bad_label_line_names_file_and_line(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "000003.txt"
    path.write_text(LINE + "\n" + line + "\n")
    with pytest.raises(DataError, match=words) as caught:
        read_labels(path)
    assert f"{path}, line 2" in str(caught.value)


def test_unknown_class_lists_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(LINE.replace("Car", "Spaceship"))
    with pytest.raises(DataError, match="Spaceship.*Person_sitting.*DontCare"):
        read_labels(tmp_path / "a.txt")


def test_dont_care_goes_last_and_the_rest_keeps_its_order(tmp_path: Path) -> None:
    dont_care = "DontCare -1 -1 -10 1 2 3 4 -1 -1 -1 -1000 -1000 -1000 -10"
    lines = [
        dont_care,
        LINE,
        "",
        dont_care,
        LINE.replace("Car", "Van"),
        LINE.replace("Car", "Tram"),
    ]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    names = [entry.cls_type for entry in read_labels(tmp_path / "a.txt")]
    assert names == ["Car", "Van", "Tram", "DontCare", "DontCare"]


def test_points(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(struct.pack("<8f", *range(8)))
    np.testing.assert_array_equal(read_points(path), [[0, 1, 2, 3], [4, 5, 6, 7]])
    path.write_bytes(b"")
    assert read_points(path).shape == (0, 4)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        (b"x" * 17, "17 bytes"),
        (b"x" * 20, "20 bytes"),
        (struct.pack("<8f", 1, 2, 3, 4, 5, float("nan"), 7, 8), "1 of 2 points"),
    ],
)
def test_bad_points_name_the_file(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "000001.bin"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        read_points(path)
    assert str(path) in str(caught.value)


def test_points_of_another_number_of_columns_are_noticed(tmp_path: Path) -> None:
    """960 points of five columns are a whole number of points of four."""
    random = np.random.default_rng(0)
    points = random.uniform([-50, -50, -2, 0], [50, 50, 1, 1], (960, 4))
    rings = np.arange(960) % 32
    path = tmp_path / "000001.bin"
    np.column_stack([points, rings]).astype(np.float32).tofile(path)
    assert read_points(path).shape == (1200, 4)
    with pytest.raises(DataError, match="000001.bin: 4 columns are asked for, .* every 5 numbers"):
        check_point_file(path)
    check_point_file(path, 5)
    points.astype(np.float32).tofile(path)
    check_point_file(path)
    check_point_file(tmp_path / "missing.bin")


def test_png_shape(tiny, tmp_path: Path) -> None:
    tiny.frame("000000", [])
    assert read_png_shape(tiny.path("image_2", "000000")).tolist() == [375, 1242]
    (tmp_path / "a.png").write_bytes(b"\xff\xd8\xff\xe0 a photograph of another format")
    with pytest.raises(DataError, match="not a PNG"):
        read_png_shape(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(tiny.path("image_2", "000000").read_bytes()[:16] + bytes(8))
    with pytest.raises(DataError, match="a.png: its header describes an image of 0 x 0 pixels"):
        read_png_shape(tmp_path / "a.png")


def test_road_plane_points_up(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("# Plane\nWidth 4\nHeight 1\n0 2 0 -3.3\n")
    np.testing.assert_allclose(read_road_plane(tmp_path / "a.txt"), [0, -1, 0, 1.65])
    (tmp_path / "a.txt").write_text("# Plane\nWidth 4\n")
    with pytest.raises(DataError, match="fourth line"):
        read_road_plane(tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 -1 0", "has 3 fields, expected 4: a b c d"),
        ("0 -1 0 1.65 0", "has 5 fields, expected 4: a b c d"),
        ("0 up 0 1.65", "its b is 'up', expected a finite number"),
        ("0 0 1e-9 1.65", "a, b and c are 0; expected the normal of a plane"),
    ],
)
def test_bad_road_plane_names_file_and_line(tmp_path: Path, line: str, words: str) -> None:
    (tmp_path / "a.txt").write_text(f"# Plane\nWidth 4\nHeight 1\n{line}\n")
    with pytest.raises(DataError, match=f"a.txt, line 4: {words}"):
        read_road_plane(tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("content", "frames"),
    [
        (b"\n000003\n\n 000001 \r\n", ["000003", "000001"]),
        (b"\xef\xbb\xbf000003\r\n000001\r\n", ["000003", "000001"]),
        (b"", []),
    ],
)
def test_split_file_of_any_editor(tiny, content: bytes, frames: list[str]) -> None:
    (tiny.root / "ImageSets" / "train.txt").write_bytes(content)
    assert KittiFolder(tiny.root, "train").frame_ids() == frames


def test_split_file_that_is_not_text(tiny) -> None:
    (tiny.root / "ImageSets" / "train.txt").write_bytes(b"\xff\xfe0\x00")
    with pytest.raises(DataError, match="train.txt: cannot be read as a list of frames"):
        KittiFolder(tiny.root, "train").frame_ids()


def test_missing_split_file_names_its_sources(tiny) -> None:
    with pytest.raises(DataError, match="train.txt.*OpenPCDet.*--make_split"):
        KittiFolder(tiny.root, "train").frame_ids()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_info_files_of_any_protocol(tmp_path: Path, protocol: int) -> None:
    info = {
        "name": np.array(["Car", "Van"]),
        "boxes": np.arange(14.0).reshape(2, 7).T,
        "empty": np.zeros((0, 7)),
        "scalars": [np.float64(1.5), np.int32(3), np.bool_(True)],
        "plain": (1, None, "text", [2]),
    }
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(info, protocol=protocol))
    loaded = load_plain_pickle(tmp_path / "a.pkl", "")
    assert loaded["name"].tolist() == ["Car", "Van"]
    assert loaded["empty"].shape == (0, 7)
    np.testing.assert_array_equal(loaded["boxes"], info["boxes"])
    assert loaded["scalars"] == [1.5, 3, True]


@pytest.mark.parametrize("package", ["numpy.core", "numpy._core"])
def test_info_files_of_older_and_newer_numpy(tmp_path: Path, package: str) -> None:
    stored = pickle.dumps([np.arange(3.0)], protocol=2)
    for name in (b"numpy._core", b"numpy.core"):
        stored = stored.replace(
            b"c" + name + b".multiarray", b"c" + package.encode() + b".multiarray"
        )
    (tmp_path / "a.pkl").write_bytes(stored)
    np.testing.assert_array_equal(load_plain_pickle(tmp_path / "a.pkl", "")[0], [0, 1, 2])


class _Trap:
    """Would make a file when unpickled carelessly."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_info_file_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([_Trap(tmp_path / "sprung")]))
    with pytest.raises(DataError, match="mkdir"):
        load_plain_pickle(tmp_path / "a.pkl", "")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content", [b"", b"no pickle at all", pickle.dumps([1, 2, 3])[:-4]])
def test_damaged_info_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(DataError, match="a.pkl"):
        load_plain_pickle(tmp_path / "a.pkl", "make it again")


def reading_s(file: Path, lines: int) -> float:
    """CPU seconds to read a label file of so many lines."""
    file.write_text(f"{LINE}\n" * lines)
    start = time.process_time()
    assert len(read_labels(file)) == lines
    return time.process_time() - start


def test_long_label_files_take_time_in_proportion(tmp_path: Path) -> None:
    """A file of 200,000 lines takes about two seconds."""
    file = tmp_path / "000000.txt"
    short_s = min(reading_s(file, 2000) for _ in range(3))
    long_s = min(reading_s(file, 20000) for _ in range(2))
    assert long_s < 30 * short_s
    assert long_s < 3
