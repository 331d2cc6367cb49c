"""``pcdet-distill data tri3d``: ONCE and Waymo become own data; what tri3d gives is turned around.

The tests on made-up folders of ONCE and Waymo need the package tri3d. The others put a reader of
the same form in its place.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_other_datasets import waymo_box, write_once, write_waymo

from pcdet_distill.apps import tri3d_data
from pcdet_distill.cli import main
from pcdet_distill.datasets.safe_pickle import load_plain_pickle


def run(*arguments: object) -> None:
    main(["data", "tri3d", *map(str, arguments), "--workers", "1"])


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that wrong input gets."""
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def annos(out: Path, split: str) -> dict:
    return load_plain_pickle(out / f"custom_infos_{split}.pkl", "")[0]["annos"]


# ---- Made-up folders, read by tri3d itself ----


def test_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tri3d")
    for split in ("train", "val"):
        write_once(tmp_path / "once", split)
    out = tmp_path / "out"
    run("once", tmp_path / "once", "--out", out)
    assert "train: 2 frames of 1 sequences; 2 without labels" in capsys.readouterr().out
    labels = annos(out, "val")
    assert labels["name"].tolist() == ["Car"]
    assert labels["num_points_in_gt"].tolist() == [30]  # so points and box turned together
    expected = [12.0, -4.0, -1.0, 4.2, 1.8, 1.6, -1.2 + math.pi / 2]
    np.testing.assert_allclose(labels["gt_boxes_lidar"][0], expected, atol=1e-4)
    assert (out / "out_teacher.yaml").is_file()
    assert not (tmp_path / ".out_exported").exists()


def test_waymo(tmp_path: Path) -> None:
    pytest.importorskip("tri3d")
    for split in ("training", "validation"):
        write_waymo(tmp_path / "waymo", split)
    out = tmp_path / "out"
    run("waymo", tmp_path / "waymo", "--out", out)
    labels = annos(out, "train")
    assert labels["name"].tolist() == ["Vehicle"]
    assert labels["num_points_in_gt"].tolist() == [24]
    middle, _ = waymo_box()
    np.testing.assert_allclose(labels["gt_boxes_lidar"][0, :3], middle, atol=1e-4)


def test_a_damaged_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tri3d")
    write_once(tmp_path, "train")
    (tmp_path / "train" / "data" / "000027" / "000027.json").write_text("{")
    message = refused(capsys, "once", tmp_path, "--out", tmp_path / "out")
    assert "train: tri3d cannot read it as Once" in message
    assert not (tmp_path / "out").exists()


# ---- A reader in place of tri3d's ----

BOX = (8.0, 2.0, -0.5, 4.0, 1.8, 1.6, 0.7)


class Transform:
    """A box's place and heading, as tri3d's transforms apply them."""

    def apply(self, point: np.ndarray) -> np.ndarray:
        cos = math.cos(BOX[6])
        sin = math.sin(BOX[6])
        turned = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) @ point
        return turned + BOX[:3]


class Reader:
    """Two sequences of six frames; each frame has a box but the first of a sequence."""

    def __init__(self, root: str, split: str) -> None:
        assert (Path(root) / split).is_dir()

    def sequences(self) -> list[int]:
        return [0, 1]

    def frames(self, sequence: int, sensor: str) -> np.ndarray:
        return np.arange(6)

    def boxes(self, sequence: int, frame: int, coords: str) -> list:
        if frame == 0:
            return []
        return [SimpleNamespace(label="CAR", size=np.array(BOX[3:6]), transform=Transform())]

    def points(self, sequence: int, frame: int, sensor: str) -> np.ndarray:
        if frame == 5 and sequence == 1:
            raise OSError("no such sweep")
        rng = np.random.default_rng(frame)
        inside = BOX[:3] + rng.uniform(-0.5, 0.5, (12, 3))
        return np.column_stack([inside, np.linspace(0, 1, 12)])


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder that the reader in place of tri3d's accepts."""
    module = SimpleNamespace(Once=Reader, Waymo=Reader)
    monkeypatch.setitem(sys.modules, "tri3d", SimpleNamespace(datasets=module))
    monkeypatch.setitem(sys.modules, "tri3d.datasets", module)
    tri3d_data._open.cache_clear()
    for split in ("train", "val"):
        (tmp_path / "once" / split).mkdir(parents=True)
    return tmp_path / "once"


def test_every_second_labelled_frame(once: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("once", once, "--out", out, "--every", 2)
    frames = (out / "ImageSets" / "train.txt").read_text().split()
    assert frames == ["train_0000_0002", "train_0000_0004", "train_0001_0002", "train_0001_0004"]
    labels = annos(out, "train")
    np.testing.assert_allclose(labels["gt_boxes_lidar"][0], BOX, atol=1e-5)
    assert labels["num_points_in_gt"].tolist() == [12]


def test_waymos_frame_without_boxes_is_a_frame_without_objects(once: Path, tmp_path: Path) -> None:
    (once / "train").rename(once / "training")
    (once / "val").rename(once / "validation")
    out = tmp_path / "out"
    run("waymo", once, "--out", out, "--every", 3, "--rename", "Car=Vehicle")
    infos = load_plain_pickle(out / "custom_infos_train.pkl", "")
    assert [len(info["annos"]["name"]) for info in infos] == [0, 1, 0, 1]
    assert infos[1]["annos"]["name"].tolist() == ["Vehicle"]
    assert infos[1]["annos"]["num_points_in_gt"].tolist() == [60]  # of five LiDARs


def test_one_split_is_divided(once: Path, tmp_path: Path) -> None:
    (once / "val").rmdir()
    out = tmp_path / "out"
    run("once", once, "--out", out, "--every", 2)
    lists = [(out / "ImageSets" / f"{split}.txt").read_text().split() for split in ("train", "val")]
    assert sum(map(len, lists)) == 4
    assert all(lists)


def test_an_unreadable_frame_is_named(
    once: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(capsys, "once", once, "--out", tmp_path / "out")
    assert "train: frame 5 of sequence 1 cannot be read (OSError: no such sweep)" in message
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / ".out_exported").exists()


def test_wrong_folders_and_flags(
    once: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert "expected a folder with train/ or val/" in refused(
        capsys, "once", tmp_path, "--out", out
    )
    assert "--every: expected a whole number from 1 up" in refused(
        capsys, "once", once, "--out", out, "--every", 0
    )
    out.mkdir()
    assert "exists already" in refused(capsys, "once", once, "--out", out)


def test_without_tri3d_the_command_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tri3d", None)
    monkeypatch.setitem(sys.modules, "tri3d.datasets", None)
    message = refused(capsys, "once", tmp_path, "--out", tmp_path / "out")
    assert "data tri3d needs the package tri3d" in message
    assert 'pip install "pcdet_distill[tri3d]"' in message
