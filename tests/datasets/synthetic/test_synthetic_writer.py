"""The simulated KITTI folder: reproducible, resumable, whole files, refusals in one sentence."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pcdet_distill.datasets.synthetic import create_synthetic_kitti, writer
from pcdet_distill.datasets.synthetic.png import png_bytes
from pcdet_distill.errors import ConfigError, DataError


def make(out: Path, frames: int = 3, seed: int = 1, **options: Any) -> Path:
    return create_synthetic_kitti(out, frames, seed, progress=False, **options)


def digest(root: Path) -> dict[str, str]:
    """Checksum of every file below ``root``."""
    checksums = {}
    for path in sorted(root.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            checksums[str(path.relative_to(root))] = hashlib.sha256(content).hexdigest()
    return checksums


def read_cloud(root: Path, frame: int) -> bytes:
    return (root / f"training/velodyne/{frame:06d}.bin").read_bytes()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("sim") / "kitti", frames=5, val_frames=2)


def test_the_layout_is_that_of_kitti(made: Path) -> None:
    suffixes = {"velodyne": "bin", "calib": "txt", "label_2": "txt", "image_2": "png"}
    assert {path.name for path in (made / "training").iterdir()} == set(suffixes)
    for folder, suffix in suffixes.items():
        names = sorted(path.name for path in (made / "training" / folder).iterdir())
        assert names == [f"{frame:06d}.{suffix}" for frame in range(5)]
    splits = {path.stem: path.read_text().split() for path in (made / "ImageSets").iterdir()}
    assert splits == {
        "train": ["000000", "000001", "000002"],
        "val": ["000003", "000004"],
        "trainval": ["000000", "000001", "000002", "000003", "000004"],
        "test": [],
    }
    cloud = np.frombuffer(read_cloud(made, 0), dtype=np.float32).reshape(-1, 4)
    assert 10_000 < len(cloud) < 22_000
    assert np.isfinite(cloud).all()


def read_splits(root: Path) -> dict[str, list[int]]:
    """The frames of every split."""
    splits = {}
    for path in (root / "ImageSets").iterdir():
        splits[path.stem] = [int(frame) for frame in path.read_text().split()]
    return splits


def test_holdout_and_unlabelled_frames_come_after_the_others_and_share_none(
    made: Path, tmp_path: Path
) -> None:
    root = make(tmp_path / "sim", 5, val_frames=2, holdout_frames=2, unlabelled_frames=1)
    assert read_splits(root) == {
        "train": [0, 1, 2],
        "val": [3, 4],
        "trainval": [0, 1, 2, 3, 4],
        "test": [],
        "holdout": [5, 6],
        "unlabelled": [7],
    }
    for name in digest(made):
        if name.startswith("training"):
            assert (root / name).read_bytes() == (made / name).read_bytes()


def test_a_folder_grows_by_frames_that_change_no_split(tmp_path: Path) -> None:
    root = make(tmp_path / "sim", 2)
    # The record of an older version: it had no extra splits.
    manifest = json.loads((root / "synthetic.json").read_text())
    old_keys = ("seed", "frames", "val_frames", "generator")
    old_manifest = {key: manifest[key] for key in old_keys}
    (root / "synthetic.json").write_text(json.dumps(old_manifest))
    make(root, 2)
    make(root, 2, holdout_frames=1)
    make(root, 2, holdout_frames=1, unlabelled_frames=1)
    assert read_splits(root)["unlabelled"] == [3]
    with pytest.raises(DataError, match="holdout_frames 1 instead of 2"):
        make(root, 2, holdout_frames=2, unlabelled_frames=1)
    words = "holdout_frames 1 instead of 0, unlabelled_frames 1 instead of 0"
    with pytest.raises(DataError, match=words):
        make(root, 2)


def test_further_sensors_see_the_same_frames(made: Path, tmp_path: Path) -> None:
    root = make(tmp_path / "sim", 5, val_frames=2, sensors=["hdl64e", "vlp16"])
    for name in digest(made):
        if name.startswith("training"):
            assert (root / name).read_bytes() == (made / name).read_bytes()
    for frame in range(5):
        file = root / f"training/velodyne_vlp16/{frame:06d}.bin"
        cloud = np.fromfile(file, dtype=np.float32).reshape(-1, 4)
        assert 1000 < len(cloud) < 6000


def test_a_folder_may_get_further_sensors_but_no_other_first_one(tmp_path: Path) -> None:
    root = make(tmp_path / "sim", 2)
    make(root, 2, sensors=["hdl64e", "vlp16"])
    assert len(list((root / "training/velodyne_vlp16").iterdir())) == 2
    with pytest.raises(DataError, match=r"sensors \['hdl64e:\w+', 'vlp16:\w+'\] instead of"):
        make(root, 2, sensors=["vlp16", "hdl64e"])
    with pytest.raises(DataError, match="sensors"):
        make(root, 2)


def test_calibration_lines_are_in_kittis_order(made: Path) -> None:
    lines = (made / "training/calib/000000.txt").read_text().splitlines()
    names = [line.split(":")[0] for line in lines]
    assert names == ["P0", "P1", "P2", "P3", "R0_rect", "Tr_velo_to_cam", "Tr_imu_to_velo"]
    assert [len(line.split()) - 1 for line in lines] == [12, 12, 12, 12, 9, 12, 12]
    rectify = np.array(lines[4].split()[1:], dtype=float).reshape(3, 3)
    np.testing.assert_allclose(rectify @ rectify.T, np.eye(3), atol=1e-9)


def test_the_image_is_a_valid_png(made: Path) -> None:
    data = (made / "training/image_2/000000.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(data) < 60_000
    assert struct.unpack(">II", data[16:24]) == (1242, 375)


def test_png_round_trip() -> None:
    image = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    data = png_bytes(image)
    chunks = {}
    position = 8  # behind the signature
    while position < len(data):
        # A chunk: length and kind in 8 bytes, the content, and a checksum in 4 bytes.
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        begin = position + 8
        end = begin + length
        content = data[begin:end]
        (checksum,) = struct.unpack(">I", data[end : end + 4])
        assert checksum == zlib.crc32(kind + content)
        chunks[kind] = content
        position = end + 4
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    pixels = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), dtype=np.uint8)
    rows = pixels.reshape(7, 1 + 5 * 3)
    row_filters = rows[:, 0]
    assert (row_filters == 2).all()
    # Filter 2 stores the difference from the row above.
    decoded = np.cumsum(rows[:, 1:], axis=0, dtype=np.uint64) % 256
    np.testing.assert_array_equal(decoded.reshape(7, 5, 3), image)


def test_the_seed_determines_the_bytes(made: Path, tmp_path: Path) -> None:
    same_seed = make(tmp_path / "a", 5, val_frames=2)
    other_seed = make(tmp_path / "b", 5, seed=2, val_frames=2)
    assert digest(same_seed) == digest(made)
    for frame in range(5):
        assert read_cloud(other_seed, frame) != read_cloud(made, frame)
    assert len({read_cloud(made, frame) for frame in range(5)}) == 5


def test_a_frame_does_not_depend_on_how_many_there_are(made: Path, tmp_path: Path) -> None:
    few = make(tmp_path / "few", 2)
    assert read_cloud(few, 1) == read_cloud(made, 1)


def test_worker_processes_write_the_same(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "FRAMES_WORTH_A_PROCESS", 1)
    assert digest(make(tmp_path / "two", 5, val_frames=2, workers=2)) == digest(made)


def test_only_missing_files_are_written(made: Path, tmp_path: Path) -> None:
    root = make(tmp_path / "resumed", 5, val_frames=2)
    kept = root / "training/velodyne/000003.bin"
    os.utime(kept, (1, 1))
    (root / "training/velodyne/000001.bin").unlink()
    (root / "training/label_2/000004.txt").unlink()
    (root / "training/label_2/000002.txt.part").write_text("half a row")
    (root / "ImageSets/val.txt").unlink()
    make(root, 5, val_frames=2)
    (root / "training/label_2/000002.txt.part").unlink()
    assert digest(root) == digest(made)
    assert kept.stat().st_mtime == 1


@pytest.mark.parametrize("changed", [{"seed": 2}, {"frames": 4}, {"val_frames": 1}])
def test_a_folder_made_from_other_numbers_is_refused(
    tmp_path: Path, changed: dict[str, int]
) -> None:
    numbers = {"frames": 3, "seed": 1, "val_frames": 0}
    root = make(tmp_path / "kitti", **numbers)
    before = digest(root)
    name = next(iter(changed))
    with pytest.raises(DataError, match=f"{name} {numbers[name]} instead of {changed[name]}"):
        make(root, **{**numbers, **changed})
    assert digest(root) == before


def test_a_foreign_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        make(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(DataError, match="is a file"):
        make(tmp_path / "notes.txt")


def test_a_broken_manifest_is_named(tmp_path: Path) -> None:
    (tmp_path / "synthetic.json").write_text("{half")
    with pytest.raises(DataError, match="synthetic.json"):
        make(tmp_path)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"frames": 0}, "frames: 0"),
        ({"frames": -3}, "frames: -3"),
        ({"frames": 10**7}, "six-digit"),
        ({"seed": -1}, "seed: -1"),
        ({"val_frames": 3}, "val_frames: 3"),
        ({"val_frames": -1}, "val_frames: -1"),
        ({"workers": -2}, "workers: -2"),
        ({"holdout_frames": -1}, "holdout_frames: -1"),
        ({"unlabelled_frames": -1}, "unlabelled_frames: -1"),
    ],
)
def test_impossible_numbers_are_refused_before_anything_is_written(
    tmp_path: Path, options: dict[str, int], word: str
) -> None:
    with pytest.raises(ConfigError, match=word):
        make(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_an_unwritable_place_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        make(tmp_path / "file" / "below")


def test_a_full_disk_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(source: Path, target: Path) -> None:
        if Path(target).suffix == ".bin":
            raise OSError(28, "No space left on device")
        os.rename(source, target)

    monkeypatch.setattr(writer.os, "replace", fail)
    with pytest.raises(DataError, match="No space left"):
        make(tmp_path / "out", 2)
    assert not list((tmp_path / "out").rglob("*.part"))
    assert not list((tmp_path / "out").rglob("*.bin"))
    monkeypatch.undo()
    make(tmp_path / "out", 2)
    assert json.loads((tmp_path / "out/synthetic.json").read_text())["frames"] == 2
