"""``data synthetic``, ``custom`` and ``tri3d``: several commands together write what one writes."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_custom import box_of, cloud_of, objects_of

from pcdet_distill.apps import tri3d_data
from pcdet_distill.apps.create_data import add_data_arguments, run_data
from pcdet_distill.datasets.custom.folder import POINTS
from pcdet_distill.errors import DataError

FRAMES = 7


def data(*words: object) -> None:
    parser = add_data_arguments(argparse.ArgumentParser())
    run_data(parser.parse_args([*map(str, words), "--workers", "1"]))


def files_of(root: Path) -> dict[str, bytes]:
    """The content of every file by its path."""
    contents = {}
    for path in sorted(root.rglob("*")):
        if path.is_file():
            contents[path.relative_to(root).as_posix()] = path.read_bytes()
    return contents


# ---- synthetic ----

KITTI = ("--frames", 5, "--val_frames", 2, "--holdout_frames", 1, "--seed", 3)
NUSCENES = ("--format", "nuscenes", "--frames", 4, "--val_frames", 1, "--scene_frames", 1)


@pytest.mark.parametrize("options", [KITTI, (*NUSCENES, "--sweeps", 2)], ids=["kitti", "nuscenes"])
def test_simulated_parts_together_are_the_whole(
    options: tuple, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data("synthetic", "--out", tmp_path / "whole", *options)
    parts = ("synthetic", "--out", tmp_path / "parts", *options)
    data(*parts, "--shard", "3/3")
    assert "shard 3/3: " in capsys.readouterr().out
    data(*parts, "--shard", "1/3")
    with pytest.raises(DataError, match=r"[12] of [46] (frame|scene)s are missing, the first is"):
        data(*parts, "--merge_shards")
    made = files_of(tmp_path / "parts")
    data(*parts, "--shard", "2/3")
    data(*parts, "--merge_shards")
    together = files_of(tmp_path / "parts")
    assert together == files_of(tmp_path / "whole")
    assert 0 < len(made) < len(together)


def test_a_part_makes_its_own_frames_alone(tmp_path: Path) -> None:
    root = tmp_path / "kitti"
    data("synthetic", "--out", root, *KITTI, "--shard", "2/3")
    clouds = sorted(path.stem for path in (root / "training" / "velodyne").iterdir())
    assert clouds == ["000001", "000004"]
    assert list((root / "ImageSets").iterdir()) == []
    with pytest.raises(DataError, match="seed 3 instead of 4"):
        data("synthetic", "--out", root, *KITTI[:-1], 4, "--shard", "1/3")


# ---- custom ----


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Clouds as .npy, and one table; the last cloud has no labels."""
    folder = tmp_path / "own"
    (folder / "clouds").mkdir(parents=True)
    lines = ["frame,class,x,y,z,length,width,height,yaw"]
    for number in range(FRAMES):
        cloud = cloud_of(objects_of(number), seed=number)
        cloud[5, 2] = math.nan
        np.save(folder / "clouds" / f"{number:04d}.npy", cloud)
        for labelled in objects_of(number) if number < FRAMES - 1 else ():
            numbers = ",".join(f"{value:.4f}" for value in box_of(labelled))
            lines.append(f"{number:04d},{labelled[0]},{numbers}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def own_words(own: Path, out: Path) -> tuple:
    columns = ("--columns", "x", "y", "z", "intensity")
    return ("custom", own / "clouds", "--labels", own / "labels.csv", "--out", out, *columns)


def test_parts_of_own_data_together_are_the_whole(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    data(*own_words(own, out))
    whole = files_of(out)
    said = capsys.readouterr().out
    out.rename(tmp_path / "whole")
    words = own_words(own, out)
    data(*words, "--shard", "1/2")
    assert "shard 1/2: 4 frames are done" in capsys.readouterr().out
    with pytest.raises(DataError, match="not every shard is done; run --shard 2/2"):
        data(*words, "--merge_shards")
    assert not out.exists()
    data(*words, "--shard", "2/2")
    capsys.readouterr()
    data(*words, "--merge_shards")
    assert files_of(out) == whole
    assert capsys.readouterr().out == said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "own", "whole"]


def test_a_bad_cloud_stops_its_part_alone(own: Path, tmp_path: Path) -> None:
    (own / "clouds" / "0003.npy").write_bytes(b"no array")
    words = own_words(own, tmp_path / "out")
    data(*words, "--shard", "1/2")
    with pytest.raises(DataError, match="0003.npy"):
        data(*words, "--shard", "2/2")
    with pytest.raises(DataError, match="run --shard 2/2"):
        data(*words, "--merge_shards")
    assert not (tmp_path / "out").exists()


def test_another_command_is_no_part(own: Path, tmp_path: Path) -> None:
    words = own_words(own, tmp_path / "out")
    data(*words, "--shard", "1/2")
    data(*words, "--seed", 1, "--shard", "2/2")
    with pytest.raises(DataError, match="--shard 2/2 was another command; run it again"):
        data(*words, "--merge_shards")


# ---- tri3d ----


class Place:
    """Where a box is, as tri3d's transforms apply it."""

    def apply(self, point: np.ndarray) -> np.ndarray:
        return np.asarray(point) + [8.0, 2.0, -0.5]


class Reader:
    """In place of tri3d's: three sequences of four frames, the first one of each unlabelled."""

    def __init__(self, root: str, split: str) -> None:
        self.folder = Path(root) / split

    def sequences(self) -> list[int]:
        return [0, 1, 2]

    def frames(self, sequence: int, sensor: str) -> np.ndarray:
        return np.arange(4)

    def boxes(self, sequence: int, frame: int, coords: str) -> list:
        size = np.array([4.0, 1.8, 1.6])
        return [SimpleNamespace(label="CAR", size=size, transform=Place())] if frame else []

    def points(self, sequence: int, frame: int, sensor: str) -> np.ndarray:
        random = np.random.default_rng(10 * sequence + frame)
        places = random.uniform(-0.5, 0.5, (30, 3)) + [8.0, 2.0, -0.5]
        return np.column_stack([places, random.uniform(0, 1, 30)])


@pytest.mark.parametrize("count", [2, 4])
def test_parts_of_tri3d_together_are_the_whole(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four parts the last one has no sequence."""
    module = SimpleNamespace(Once=Reader, Waymo=Reader)
    monkeypatch.setitem(sys.modules, "tri3d", SimpleNamespace(datasets=module))
    monkeypatch.setitem(sys.modules, "tri3d.datasets", module)
    tri3d_data._open.cache_clear()
    for split in ("train", "val"):
        (tmp_path / "once" / split).mkdir(parents=True)
    out = tmp_path / "out"
    words = ("tri3d", "once", tmp_path / "once", "--out", out)
    data(*words)
    whole = files_of(out)
    assert len(list((out / POINTS).iterdir())) == 18
    out.rename(tmp_path / "whole")
    for number in range(1, count + 1):
        data(*words, "--shard", f"{number}/{count}")
    assert not out.exists()
    data(*words, "--merge_shards")
    assert files_of(out) == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["once", "out", "whole"]
