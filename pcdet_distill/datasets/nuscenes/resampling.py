"""Class-balanced grouping and sampling (CBGS, https://arxiv.org/abs/1908.09492).

Some classes are a hundred times rarer than others. A training on frames as they are hardly sees
them. So each class draws the same number of frames out of those that hold it, with replacement;
together they are one epoch.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from ...errors import DataError

WHERE = "DATA_CONFIG.BALANCED_RESAMPLING"


def balanced_frames(
    names_of_frames: Sequence[Collection[str]],
    class_names: Sequence[str],
    random: np.random.RandomState,
) -> np.ndarray:
    """(N,) numbers of the frames of one epoch, class after class.

    Args:
        names_of_frames: the classes of the objects of each frame.
        class_names: the classes that are balanced.
        random: draws the frames.
    """
    frames_of = {name: frames_with(names_of_frames, name) for name in class_names}
    absent = [name for name, frames in frames_of.items() if len(frames) == 0]
    if absent:
        raise DataError(
            f"{WHERE}: no frame holds a {' / '.join(absent)}, so it cannot be drawn as often as "
            "the others; take it out of CLASS_NAMES, or set BALANCED_RESAMPLING: False"
        )
    total = sum(len(frames) for frames in frames_of.values())
    wanted_share = 1.0 / len(class_names)
    drawn = []
    for frames in frames_of.values():
        # OpenPCDet's order of operations: the product is rounded down, and may be one less.
        ratio = wanted_share / (len(frames) / total)
        drawn.append(random.choice(frames, int(len(frames) * ratio)))
    return np.concatenate(drawn)


def frames_with(names_of_frames: Sequence[Collection[str]], name: str) -> np.ndarray:
    """Numbers of the frames that hold an object of a class, each once."""
    holds = [name in names for names in names_of_frames]
    return np.flatnonzero(holds)
