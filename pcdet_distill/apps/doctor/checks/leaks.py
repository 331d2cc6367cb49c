"""Frames that occur twice, and frames of the validation that the training has seen."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import numpy as np

from ....texts import listed
from ..case import Case
from ..finding import Finding, Severity, percent
from ..frames import Frame, Split

CHECK = "leaks"
COMMON = 0.4  # of the frames hold points in a cell: ground and a sensor's fixed surroundings
LEAST_CELLS = 60
ALIKE = 0.7  # share of the other cells that two frames of one scene have in common
LEAST_FRAMES = 4
CONTINUED = 0.3  # share of the validation's frames that continue a sequence of the training
SHOWN = 3


def check_leaks(case: Case) -> Iterator[Finding]:
    """Whether frames are unique, and the validation is new to the model."""
    for split in case.splits.values():
        yield from _repeated_names(split)
        yield from _repeated_clouds(split)
    train = case.splits.get("train")
    val = case.splits.get("val")
    if train is None or val is None:
        return
    same_names = set(train.all_names) & set(val.all_names)
    same_clouds = _same_clouds(train, val)
    yield from _same_files(val, same_names, same_clouds)
    known = {frame.name for frame, _ in same_clouds} | same_names
    yield from _alike(case, train, val, known)
    if not same_clouds:
        yield from _sequences(train, val)


def _repeated_names(split: Split) -> Iterator[Finding]:
    counts = Counter(split.all_names)
    twice = [name for name, number in counts.items() if number > 1]
    if twice:
        yield Finding(
            CHECK,
            Severity.WARNING,
            f"split {split.name}, frame {listed(twice)}",
            f"{len(twice)} frames stand several times in the list of the split",
            fix="name each frame once",
        )


def _repeated_clouds(split: Split) -> Iterator[Finding]:
    groups: dict[str, list[str]] = {}
    for frame in split.frames:
        if frame.num_points:
            groups.setdefault(frame.digest, []).append(frame.name)
    twice = [sorted(set(names)) for names in groups.values() if len(set(names)) > 1]
    if not twice:
        return
    pairs = "; ".join(" = ".join(names[:SHOWN]) for names in twice[:SHOWN])
    copies = sum(len(names) - 1 for names in twice)
    yield Finding(
        CHECK,
        Severity.WARNING,
        f"split {split.name}, frame {listed(names[0] for names in twice)}",
        f"{copies} of {len(split.frames)} frames have the same points as another one ({pairs})",
        fix="remove the copies, or mend the files that were written twice",
        frames=tuple(names[0] for names in twice)[:4],
    )


def _same_clouds(train: Split, val: Split) -> list[tuple[Frame, Frame]]:
    by_digest = {frame.digest: frame for frame in train.frames if frame.num_points}
    return [(f, by_digest[f.digest]) for f in val.frames if f.digest in by_digest]


def _same_files(
    val: Split, same_names: set[str], same_clouds: list[tuple[Frame, Frame]]
) -> Iterator[Finding]:
    names = sorted(same_names | {frame.name for frame, _ in same_clouds})
    if not names:
        return
    pairs = ", ".join(f"{a.name} = {b.name} of train" for a, b in same_clouds[:SHOWN])
    how = f" ({pairs})" if pairs else ""
    looked_at = len(val.all_names) if same_names else len(val.frames)
    yield Finding(
        CHECK,
        Severity.ERROR,
        f"split val, frame {listed(names)}",
        f"{len(names)} of {looked_at} frames of the validation are also trained on{how}: AP is "
        "higher than on new frames",
        fix="remove them from one of the two splits",
        frames=tuple(names[:4]),
    )


def similarities(first: list[Frame], second: list[Frame]) -> np.ndarray:
    """(F, S): how alike two frames are, from 0 to 1.

    It is the share of the occupied cells that both have, of those that either has. Cells that are
    occupied in many frames do not count: ground, and what a fixed sensor always sees.
    """
    signatures = [frame.signature for frame in (*first, *second)]
    bits = np.unpackbits(np.stack(signatures), axis=1).astype(np.float32)
    bits[:, bits.mean(axis=0) > COMMON] = 0
    one, other = bits[: len(first)], bits[len(first) :]
    both = one @ other.T
    cells_one = one.sum(axis=1)
    cells_other = other.sum(axis=1)
    either = cells_one[:, None] + cells_other[None] - both
    enough = np.minimum(cells_one[:, None], cells_other[None]) >= LEAST_CELLS
    return np.where(enough, both / np.maximum(either, 1), 0.0)


def _alike(case: Case, train: Split, val: Split, known: set[str]) -> Iterator[Finding]:
    """Other clouds of the same place at nearly the same time."""
    new = [frame for frame in val.frames if frame.name not in known and frame.num_points]
    old = [frame for frame in train.frames if frame.num_points]
    if not new or len(old) < LEAST_FRAMES:
        return
    alike = similarities(new, old)
    best = alike.argmax(axis=1)
    chosen = [row for row in range(len(new)) if alike[row, best[row]] > ALIKE]
    if not chosen:
        return
    pairs = ", ".join(f"{new[row].name} ~ {old[best[row]].name}" for row in chosen[:SHOWN])
    yield Finding(
        CHECK,
        Severity.WARNING,
        f"split val, frame {listed(new[row].name for row in chosen)}",
        f"{len(chosen)} of {len(val.frames)} frames of the validation are nearly equal to one of "
        f"the training ({pairs}): AP is higher than in new places",
        fix="split by recordings, not by frames",
        frames=tuple(new[row].name for row in chosen)[:4],
    )


def sequence_of(name: str) -> tuple[str, int] | None:
    """``("drive_3/", 12)`` for ``drive_3/000012``; None for a name without a number at its end."""
    match = re.fullmatch(r"(.*?)(\d+)\D*", name)
    return (match.group(1), int(match.group(2))) if match else None


def _sequences(train: Split, val: Split) -> Iterator[Finding]:
    """Recordings, by the names of their frames, that are in both splits."""
    places = {name: sequence_of(name) for name in (*train.all_names, *val.all_names)}
    prefixes = {place[0] for place in places.values() if place and place[0]}
    if len(prefixes) < 2:
        return
    trained = {place[0] for name in train.all_names if (place := places[name]) and place[0]}
    shared = [name for name in val.all_names if (place := places[name]) and place[0] in trained]
    if len(shared) <= CONTINUED * len(val.all_names):
        return
    names = {place[0] for name in shared if (place := places[name])}
    yield Finding(
        CHECK,
        Severity.WARNING,
        f"split val, frame {listed(shared)}",
        f"{percent(len(shared) / len(val.all_names))} of the frames of the validation are of "
        f"recordings that are trained on, by their names ({listed(sorted(names))}): AP is higher "
        "than in new places",
        fix="split by recordings, not by frames",
    )
