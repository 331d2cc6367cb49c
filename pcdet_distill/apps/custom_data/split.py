"""Divide frames into train and val, so that frames of one moment are never on both sides.

Consecutive frames of a recording show the same objects. With one of them in train, its neighbour in
val is easy, and the AP says little about new places. So whole recordings stay together where names
tell them apart, else blocks of consecutive frames.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import ConfigError

WAYS = ("auto", "sequence", "block", "random")
NUM_BLOCKS = 10
NUM_DRAWS = 300
# The share of val may differ so much from what was asked for, where recordings stay whole.
TOLERANCE = 0.15
MISSING_CLASS = 1.0  # how bad a class that is missing on one side is, in shares of frames
TRAIN_FOLDERS = ("train",)
VAL_FOLDERS = ("val", "valid", "validation", "test", "testing")
LAST_NUMBER = re.compile(r"[\W_]*\d[\d.]*$")


@dataclass(frozen=True)
class Split:
    """Names of the frames, in their order, and how they were divided."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    note: str


def split_frames(
    classes_of: Mapping[str, Sequence[str]], share: float, seed: int = 0, way: str = "auto"
) -> Split:
    """Divide the frames.

    Args:
        classes_of: the classes of each frame's objects, by frame.
        share: how many of the frames are for training.
        seed: of the random draws.
        way: one of WAYS.
    """
    if not 0 < share < 1:
        raise ConfigError(f"--split {share:g}: expected the share of training frames, 0 to 1")
    frames = sorted(classes_of, key=natural_order)
    if len(frames) == 1:
        note = "one frame is both train and val: its AP only tells that training works"
        return Split((frames[0],), (frames[0],), note)
    groups, kind = _groups(frames, share, way)
    random = np.random.RandomState(seed)
    val = _best_draw(groups, classes_of, 1 - share, random)
    train = tuple(frame for frame in frames if frame not in val)
    note = f"{len(groups)} {kind}"
    return Split(train, tuple(frame for frame in frames if frame in val), note)


def split_of_folders(original: Mapping[str, str]) -> Split | None:
    """The split that folders named train and val, or train and test, make; None without them.

    Args:
        original: the name with folders of each frame, by its final name.
    """
    parts: dict[str, list[str]] = {}
    for frame, name in original.items():
        folders = [folder.lower() for folder in name.split("/")[:-1]]
        known = [folder for folder in folders if folder in (*TRAIN_FOLDERS, *VAL_FOLDERS)]
        if not known:
            return None
        parts.setdefault(known[0], []).append(frame)
    train = [frame for name in TRAIN_FOLDERS for frame in parts.get(name, ())]
    # A labelled test folder is for validation where there is no other; else it is left alone.
    for name in VAL_FOLDERS:
        if train and name in parts:
            note = f"as the folders {'/, '.join(parts)}/ divide them"
            return Split(tuple(train), tuple(parts[name]), note)
    return None


def natural_order(frame: str) -> tuple[tuple[int, int, str], ...]:
    """A key that sorts ``f9`` before ``f10``."""
    parts = re.split(r"(\d+)", frame)
    return tuple((1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts)


def sequence_of(frame: str) -> str:
    """The recording that a frame's name tells: its folder, else the name without last number."""
    folder, slash, name = frame.rpartition("/")
    return folder + slash + LAST_NUMBER.sub("", name)


def _groups(frames: Sequence[str], share: float, way: str) -> tuple[list[list[str]], str]:
    """The frames that stay together, and what they are."""
    sequences: dict[str, list[str]] = {}
    for frame in frames:
        sequences.setdefault(sequence_of(frame), []).append(frame)
    if way != "sequence" and len(sequences) > len(frames) / 2:
        sequences = {"": list(frames)}  # names like 3f9a: every frame would be a recording
    if way == "random":
        return [[frame] for frame in frames], "single frames, drawn at random"
    if way == "sequence" and len(sequences) < 2:
        raise ConfigError(
            f"--split_by sequence: the names, such as '{frames[0]}', tell of one recording only; "
            "expected --split_by block"
        )
    whole = list(sequences.values())
    if way == "sequence" or (way == "auto" and _can_reach(whole, 1 - share)):
        return whole, "recordings, told by their names, each of them whole on one side"
    blocks = []
    for sequence in whole:
        size = max(1, len(frames) // NUM_BLOCKS)
        blocks += [sequence[first : first + size] for first in range(0, len(sequence), size)]
    return blocks, "blocks of consecutive frames, each of them whole on one side"


def _can_reach(groups: Sequence[Sequence[str]], share: float) -> bool:
    """Whether some of the groups make about this share of all frames."""
    if len(groups) < 2:
        return False
    sizes = [len(group) for group in groups]
    reachable = {0}
    for size in sizes:
        reachable |= {total + size for total in reachable}
    shares = [total / sum(sizes) for total in reachable if 0 < total < sum(sizes)]
    return min(abs(found - share) for found in shares) <= TOLERANCE


def _best_draw(
    groups: Sequence[Sequence[str]],
    classes_of: Mapping[str, Sequence[str]],
    val_share: float,
    random: np.random.RandomState,
) -> set[str]:
    """The val frames of the best of many random draws.

    Good is a share of frames near ``val_share``, and every class on both sides.
    """
    num_frames = sum(len(group) for group in groups)
    best: set[str] = set()
    best_badness = np.inf
    for _ in range(NUM_DRAWS):
        val: set[str] = set()
        for index in random.permutation(len(groups))[:-1]:
            grown = len(val) + len(groups[index])
            if not val or abs(grown / num_frames - val_share) < abs(
                len(val) / num_frames - val_share
            ):
                val.update(groups[index])
        badness = _badness(val, classes_of, val_share)
        if badness < best_badness:
            best = val
            best_badness = badness
    return best


def _badness(val: set[str], classes_of: Mapping[str, Sequence[str]], val_share: float) -> float:
    in_train: set[str] = set()
    in_val: set[str] = set()
    for frame, classes in classes_of.items():
        (in_val if frame in val else in_train).update(classes)
    on_one_side = len(in_train ^ in_val)
    return abs(len(val) / len(classes_of) - val_share) + MISSING_CLASS * on_one_side
