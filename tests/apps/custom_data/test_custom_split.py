"""The split: whole recordings or blocks, every class on both sides, the same draw by the seed."""

from __future__ import annotations

import pytest

from pcdet_distill.apps.custom_data.split import (
    natural_order,
    sequence_of,
    split_frames,
    split_of_folders,
)
from pcdet_distill.errors import ConfigError


def frames_of(*names: str, classes: tuple[str, ...] = ("Car",)) -> dict[str, tuple[str, ...]]:
    return dict.fromkeys(names, classes)


@pytest.mark.parametrize(
    ("frame", "sequence"),
    [
        ("seq1/0007", "seq1/"),
        ("hall_a_000123", "hall_a"),
        ("hall_a-000123.5", "hall_a"),
        ("2021-01-01_12-30-22_000123", "2021-01-01_12-30-22"),
        ("315966265259836000", ""),
        ("scene", "scene"),
    ],
)
def test_names_tell_recordings(frame: str, sequence: str) -> None:
    assert sequence_of(frame) == sequence


def test_numbers_in_names_are_ordered_by_value() -> None:
    assert sorted(["f10", "f9", "f1_b", "f1"], key=natural_order) == ["f1", "f1_b", "f9", "f10"]


def test_recordings_stay_whole() -> None:
    names = [f"drive{drive}_{number:03d}" for drive in range(5) for number in range(20)]
    split = split_frames(frames_of(*names), 0.8)
    assert len(split.val) == 20
    assert len({sequence_of(name) for name in split.val}) == 1
    assert set(split.train) | set(split.val) == set(names)
    assert not set(split.train) & set(split.val)
    assert "recordings" in split.note


def test_one_recording_is_split_in_blocks() -> None:
    names = [f"{number:04d}" for number in range(100)]
    split = split_frames(frames_of(*names), 0.8)
    assert len(split.val) == 20
    numbers = [int(name) for name in split.val]
    # Two blocks of ten have at most three more gaps than one run of frames.
    gaps = sum(second - first > 1 for first, second in zip(numbers, numbers[1:]))
    assert gaps <= 1
    assert "blocks" in split.note


def test_recordings_too_large_for_the_share_are_split_in_blocks() -> None:
    names = [f"a_{number}" for number in range(50)] + [f"b_{number}" for number in range(50)]
    assert "blocks" in split_frames(frames_of(*names), 0.9).note
    whole = split_frames(frames_of(*names), 0.9, way="sequence")
    assert len(whole.val) == 50


def test_names_without_order_are_no_recordings() -> None:
    names = [f"{letter}f{number}c" for letter in "abcdefgh" for number in range(10)]
    assert "blocks" in split_frames(frames_of(*names), 0.8).note


def test_rare_classes_are_on_both_sides() -> None:
    frames = frames_of(*[f"{number:04d}" for number in range(100)])
    for number in (5, 95):
        frames[f"{number:04d}"] = ("Car", "Crane")
    for seed in range(5):
        split = split_frames(frames, 0.8, seed)
        assert any("Crane" in frames[name] for name in split.val)
        assert any("Crane" in frames[name] for name in split.train)


def test_the_seed_decides() -> None:
    frames = frames_of(*[f"{number:04d}" for number in range(100)])
    draws = {split_frames(frames, 0.8, seed).val for seed in (1, 1, 2, 3)}
    assert split_frames(frames, 0.8, 1) == split_frames(frames, 0.8, 1)
    assert len(draws) == 3


@pytest.mark.parametrize("count", [2, 3, 7])
def test_few_frames_leave_some_on_each_side(count: int) -> None:
    split = split_frames(frames_of(*[f"{number}" for number in range(count)]), 0.8)
    assert split.train
    assert split.val


def test_single_frames_are_drawn_on_request() -> None:
    names = [f"{number:04d}" for number in range(100)]
    split = split_frames(frames_of(*names), 0.8, way="random")
    numbers = [int(name) for name in split.val]
    gaps = sum(second - first > 1 for first, second in zip(numbers, numbers[1:]))
    assert gaps > 8


def test_folders_of_train_and_val_are_a_split() -> None:
    original = {"train_1": "train/1", "train_2": "hall/train/2", "val_1": "val/1", "t": "test/1"}
    split = split_of_folders(original)
    assert split is not None
    assert split.train == ("train_1", "train_2")
    assert split.val == ("val_1",)
    del original["val_1"]
    split = split_of_folders(original)
    assert split is not None
    assert split.val == ("t",)
    assert split_of_folders({"a": "drive1/1", "b": "train/1"}) is None
    assert split_of_folders({"a": "train/1"}) is None


@pytest.mark.parametrize("share", [0, 1, 80, -0.2])
def test_shares_beyond_0_to_1_are_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="--split"):
        split_frames(frames_of("1", "2"), share)
