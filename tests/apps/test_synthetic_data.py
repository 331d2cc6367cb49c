"""``data synthetic`` ends with a line that says what is there and what comes next."""

from __future__ import annotations

from pathlib import Path

import pytest

from pcdet_distill.cli import main


def simulate(capsys: pytest.CaptureFixture[str], out: Path, *flags: str) -> str:
    main(["data", "synthetic", "--out", str(out), "--workers", "1", *flags])
    return capsys.readouterr().out


def test_numbers_of_frames_and_the_next_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--frames", "3", "--val_frames", "1", "--holdout_frames", "1")
    text = simulate(capsys, tmp_path / "kitti", *flags)
    assert text.startswith(f"{tmp_path / 'kitti'}: 2 train, 1 val, 1 holdout frames; ")
    assert "data kitti" in text


def test_a_part_of_the_frames_says_nothing_of_the_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--frames", "2", "--val_frames", "0")
    first = simulate(capsys, tmp_path / "kitti", *flags, "--shard", "1/2")
    second = simulate(capsys, tmp_path / "kitti", *flags, "--shard", "2/2")
    merged = simulate(capsys, tmp_path / "kitti", *flags, "--merge_shards")
    assert "train frames" not in first + second
    assert "2 train frames" in merged


def test_scenes_of_nuscenes_name_their_next_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--frames", "1", "--val_frames", "0", "--scene_frames", "1", "--sweeps", "1")
    text = simulate(capsys, tmp_path / "drives", "--format", "nuscenes", *flags)
    assert f"{tmp_path / 'drives'}: simulated; 'pcdet-distill data nuscenes" in text
