"""Frames that cannot be read, clouds that are empty or cut off, frames without labels."""

from __future__ import annotations

from collections.abc import Iterator

from ....datasets.doubts import LEAST_FRAMES, small_clouds
from ....datasets.facts import size_problem
from ....texts import listed
from ..case import Case
from ..finding import Finding, Severity, percent
from ..frames import Split

CHECK = "reading"
MANY = 0.05  # share of unreadable frames that is an error
MANY_UNLABELLED = 0.5


def check_reading(case: Case) -> Iterator[Finding]:
    """Whether every frame can be read and holds points and labels."""
    for name, reason in case.errors.items():
        yield Finding(CHECK, Severity.ERROR, f"split {name}", reason)
    for split in case.splits.values():
        if split.unreadable:
            yield _unreadable(split)
        yield from _other_sizes(split)
        yield from _small_clouds(split)
        yield from _unlabelled(split)


def _unreadable(split: Split) -> Finding:
    frame, reason = next(iter(split.unreadable.items()))
    count = len(split.unreadable)
    looked_at = count + len(split.frames)
    bad = Severity.ERROR if count > MANY * looked_at else Severity.WARNING
    return Finding(
        CHECK,
        bad,
        f"split {split.name}, frame {listed(split.unreadable)}",
        f"{count} of {looked_at} frames cannot be read; frame {frame}: {reason}",
        fix="mend or remove these frames; --skip_bad_frames of the training leaves them out",
    )


def _other_sizes(split: Split) -> Iterator[Finding]:
    problems = {}
    for frame in split.frames:
        problem = size_problem(split.dataset, frame.index)
        if problem:
            problems[frame.name] = problem
    if problems:
        yield Finding(
            CHECK,
            Severity.ERROR if len(problems) > MANY * len(split.frames) else Severity.WARNING,
            f"split {split.name}, frame {listed(problems)}",
            f"{len(problems)} of {len(split.frames)} point files have another size than when their "
            f"infos were made: {next(iter(problems.values()))}",
            fix="copy these files again, or make the info files again if the new files are right",
            frames=tuple(problems)[:4],
        )


def _small_clouds(split: Split) -> Iterator[Finding]:
    empty = [frame.name for frame in split.frames if frame.num_points == 0]
    if empty:
        yield Finding(
            CHECK,
            Severity.ERROR if len(empty) > MANY * len(split.frames) else Severity.WARNING,
            f"split {split.name}, frame {listed(empty)}",
            f"{len(empty)} of {len(split.frames)} frames have no points",
            fix="remove these frames from the list of the split, or mend their point files",
            frames=tuple(empty[:4]),
        )
    small, usual = small_clouds([(frame.name, frame.num_points) for frame in split.frames])
    if small:
        yield Finding(
            CHECK,
            Severity.WARNING,
            f"split {split.name}, frame {listed(small)}",
            f"{len(small)} frames have less than a tenth of the usual {usual:.0f} points: their "
            "files may be cut off",
            fix="compare the sizes of these point files with the others",
            frames=tuple(small[:4]),
        )


def _unlabelled(split: Split) -> Iterator[Finding]:
    without = [frame.name for frame in split.frames if frame.objects is None]
    if without and split.frames:
        everything = len(without) == len(split.frames)
        yield Finding(
            CHECK,
            Severity.ERROR if everything else Severity.WARNING,
            f"split {split.name}, frame {listed(without)}",
            f"{len(without)} of {len(split.frames)} frames have no labels, so they can be neither "
            "trained on nor evaluated",
            fix="add the labels, or remove these frames from the list of the split",
        )
    empty = [
        frame.name
        for frame in split.frames
        if frame.objects is not None and len(frame.objects.names) == 0
    ]
    share = len(empty) / max(len(split.frames), 1)
    if empty and share > MANY_UNLABELLED and len(split.frames) >= LEAST_FRAMES:
        yield Finding(
            CHECK,
            Severity.ERROR if share == 1 else Severity.WARNING,
            f"split {split.name}, frame {listed(empty)}",
            f"{percent(share)} of the frames have a list of labels without any object; training "
            "skips such frames, and every detection on them counts as false in the evaluation",
            fix="check whether the labels of these frames were lost in the conversion",
        )
