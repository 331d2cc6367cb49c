"""Data prepared in parts: the bytes of one piece, and a merge that notices what is missing."""

from __future__ import annotations

import argparse
import pickle
from pathlib import Path

import pytest
import yaml
from tiny_kitti import DATA_CONFIG, TinyKitti

from pcdet_distill.apps.create_data import add_data_arguments, run_data
from pcdet_distill.config import to_plain
from pcdet_distill.datasets.kitti.kitti_infos import create_kitti_infos
from pcdet_distill.datasets.parts import DONE, FOLDER, Merge, Part, PartIsReady
from pcdet_distill.errors import ConfigError, DataError
from pcdet_distill.file_locks import FileLock
from pcdet_distill.parallel.shards import Shard


@pytest.fixture
def kitti(tmp_path: Path) -> TinyKitti:
    """Seven frames, of which the sixth has no objects."""
    tiny = TinyKitti(tmp_path / "kitti")
    frames = [f"{number:06d}" for number in range(7)]
    for number, frame_id in enumerate(frames):
        tiny.frame(frame_id, [] if number == 5 else [("Car", 10.0 + number, 2.0)])
    tiny.split(train=frames[:6], val=frames[6:])
    return tiny


def make(root: Path, workers: Part | Merge | int) -> None:
    create_kitti_infos(root, workers, show_progress=False)


def make_part(root: Path, number: int, count: int, request: str = "kitti") -> str:
    with pytest.raises(PartIsReady) as ready:
        make(root, Part(1, Shard(number, count), request))
    return str(ready.value)


def files_of(root: Path) -> dict[str, bytes]:
    """What a preparation writes."""
    paths = [*root.glob("kitti_*"), *(root / "gt_database").iterdir()]
    return {path.name: path.read_bytes() for path in paths}


def test_parts_together_are_the_whole(kitti: TinyKitti) -> None:
    make(kitti.root, 1)
    expected = files_of(kitti.root)
    assert len([name for name in expected if name.endswith("_Car_0.bin")]) == 5
    for path in kitti.root.glob("kitti_*"):
        path.unlink()
    # Four parts of the one frame of val: three are empty.
    assert make_part(kitti.root, 4, 4).startswith("shard 4/4: 1 frames are done; when all shards")
    for number in (1, 2, 3):
        make_part(kitti.root, number, 4)
    assert list(kitti.root.glob("kitti_*")) == []
    make(kitti.root, Merge("kitti"))
    assert files_of(kitti.root) == expected
    assert not (kitti.root / FOLDER).exists()


def test_the_merge_wants_all_parts_of_one_command_and_these_frames(kitti: TinyKitti) -> None:
    root = kitti.root
    make(root, 1)
    before = files_of(root)
    with pytest.raises(DataError, match="holds no shards; expected runs of --shard 1/N to N/N"):
        make(root, Merge("kitti"))
    make_part(root, 1, 3)
    with pytest.raises(DataError, match="not every shard is done; run --shard 2/3, 3/3"):
        make(root, Merge("kitti"))
    make_part(root, 2, 3, "kitti with another cloud")
    make_part(root, 3, 3)
    with pytest.raises(DataError, match="--shard 2/3 was another command; run it again"):
        make(root, Merge("kitti"))
    make_part(root, 2, 3)
    kitti.split(train=[f"{number:06d}" for number in range(5)], val=["000006"])
    with pytest.raises(DataError, match=r"0.pkl: of other frames than .*; run --shard 1/3"):
        make(root, Merge("kitti"))
    assert files_of(root) == before
    make_part(root, 1, 2)
    with pytest.raises(DataError, match="holds parts of several divisions .1-of-2, 1-of-3, 2-of-3"):
        make(root, Merge("kitti"))


def test_no_part_is_there_twice(kitti: TinyKitti) -> None:
    """A folder with the results of too many frames, and one part that two processes work on."""
    for number in (1, 2):
        make_part(kitti.root, number, 2)
    file = kitti.root / FOLDER / "2-of-2" / "0.pkl"
    content = pickle.loads(file.read_bytes())
    content["results"] *= 2
    file.write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match="2-of-2/0.pkl: of other frames"):
        make(kitti.root, Merge("kitti"))
    with (
        FileLock(kitti.root / FOLDER / "2-of-2.lock"),
        pytest.raises(DataError, match=r"works on --shard 2/2; wait for its end"),
    ):
        make(kitti.root, Part(1, Shard(2, 2), "kitti"))


def test_a_bad_frame_leaves_no_part(kitti: TinyKitti) -> None:
    kitti.path("velodyne", "000001").write_bytes(b"x" * 30)
    make_part(kitti.root, 1, 2)
    with pytest.raises(DataError, match="000001.bin: 30 bytes"):
        make(kitti.root, Part(1, Shard(2, 2), "kitti"))
    assert [path.parent.name for path in kitti.root.glob(f"{FOLDER}/*/{DONE}")] == ["1-of-2"]


def test_the_commands(kitti: TinyKitti, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "dataset.yaml"
    content = {**to_plain(DATA_CONFIG), "DATA_PATH": str(kitti.root)}
    config.write_text(yaml.safe_dump(content))

    def data(*words: str) -> str:
        parser = add_data_arguments(argparse.ArgumentParser())
        run_data(parser.parse_args(["kitti", str(config), *words]))
        return capsys.readouterr().out

    data("--shard", "1/2", "--workers", "1")
    assert "shard 2/2: 3 frames are done" in data("--shard", "2/2", "--workers", "2")
    assert "infos of 6 train, 1 val, 7 trainval frames, 5 objects" in data("--merge_shards")
    with pytest.raises(ConfigError, match="--merge_shards: comes after all of --shard"):
        data("--merge_shards", "--shard", "1/2")
    with pytest.raises(ConfigError, match="run them first, without --shard"):
        data("--make_planes", "--shard", "1/2")
