"""One preparation of a folder at a time."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_kitti import TinyKitti

from pcdet_distill.datasets.info_files import LOCK, preparing
from pcdet_distill.datasets.kitti.kitti_infos import create_kitti_infos
from pcdet_distill.datasets.kitti.road_planes import create_road_planes
from pcdet_distill.datasets.synthetic import create_synthetic_kitti
from pcdet_distill.errors import DataError

# Prepares a folder, and stops at its first frame until standard input is closed.
SLOW = """
import sys
from pathlib import Path
from pcdet_distill.datasets.kitti import kitti_infos
process_frame = kitti_infos._process_frame
def slow(*arguments):
    if not hasattr(sys, "waited"):
        sys.waited = True
        print("at work", flush=True)
        sys.stdin.read()
    return process_frame(*arguments)
kitti_infos._process_frame = slow
kitti_infos.create_kitti_infos(Path(sys.argv[1]), show_progress=False)
"""


def start(root: Path) -> subprocess.Popen[str]:
    """A process that is preparing ``root``."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    return process


@pytest.fixture
def kitti(tmp_path: Path) -> Path:
    tiny = TinyKitti(tmp_path / "kitti")
    frames = [f"{number:06d}" for number in range(3)]
    for frame_id in frames:
        tiny.frame(frame_id, [("Car", 10.0, 2.0)])
    tiny.split(train=frames[:2], val=frames[2:])
    return tiny.root


def test_a_second_preparation_is_refused_and_harms_nothing(kitti: Path) -> None:
    create_kitti_infos(kitti, show_progress=False)
    expected = (kitti / "kitti_infos_train.pkl").read_bytes()
    (kitti / "kitti_infos_train.pkl").unlink()
    with start(kitti) as first:
        refusal = rf"process {first.pid} on \S+ prepares this folder at the moment; wait for its"
        with pytest.raises(DataError, match=refusal):
            create_kitti_infos(kitti, show_progress=False)
        with pytest.raises(DataError, match="prepares this folder"):
            create_road_planes(kitti, show_progress=False)
    assert first.returncode == 0
    assert (kitti / "kitti_infos_train.pkl").read_bytes() == expected
    assert len(pickle.loads((kitti / "kitti_dbinfos_train.pkl").read_bytes())["Car"]) == 2
    assert not (kitti / LOCK).exists()


def test_a_killed_preparation_keeps_nobody_out(kitti: Path) -> None:
    with start(kitti) as first:
        first.kill()
    assert create_kitti_infos(kitti, show_progress=False)["train"] == 2


def test_simulated_frames_have_one_writer(tmp_path: Path) -> None:
    create_synthetic_kitti(tmp_path, 1, val_frames=0, workers=0, progress=False)
    with preparing(tmp_path), pytest.raises(DataError, match="prepares this folder"):
        create_synthetic_kitti(tmp_path, 1, val_frames=0, workers=0, progress=False)
