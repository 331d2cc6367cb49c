"""``--frames``: how many frames, which positions, or which names."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from ...errors import ConfigError

DEFAULT_FRAMES = 50
COUNT = re.compile(r"[1-9]\d*|0")
POSITIONS = re.compile(r"(\d*):(\d*)(?::(\d+))?")
LAST_NUMBER = re.compile(r"(\d+)$")


def choose_frames(
    words: Sequence[str], names: Sequence[str], preferred: Collection[str] = ()
) -> list[int]:
    """The positions of the frames to show.

    Args:
        words: of the flag: a number of frames, ``FIRST:END`` or ``FIRST:END:STEP`` as positions,
            or names of frames.
        names: of all frames.
        preferred: where a number is asked for, the first of these: frames that have results.

    Raises:
        ConfigError: no frame has a name, or none is left.
    """
    words = [word for text in words for word in text.split(",") if word]
    if not words:
        words = [str(DEFAULT_FRAMES)]
    if len(words) == 1 and words[0] not in names:
        positions = POSITIONS.fullmatch(words[0])
        if positions:
            return _slice(words[0], positions.groups(), len(names))
        if COUNT.fullmatch(words[0]):
            return _first(int(words[0]), names, preferred)
    return [_position(word, names) for word in dict.fromkeys(words)]


def _first(count: int, names: Sequence[str], preferred: Collection[str]) -> list[int]:
    if count < 1:
        raise ConfigError(f"--frames {count}: expected 1 or more, or names of frames")
    numbers = [number for number, name in enumerate(names) if name in preferred]
    return (numbers or list(range(len(names))))[:count]


def _slice(word: str, parts: Sequence[str | None], total: int) -> list[int]:
    first, end, step = (int(part) if part else None for part in parts)
    if step == 0:
        raise ConfigError(f"--frames {word}: expected a step of 1 or more")
    chosen = list(range(total))[slice(first, end, step)]
    if not chosen:
        raise ConfigError(f"--frames {word}: no frame is left; there are {total}")
    return chosen


def _position(word: str, names: Sequence[str]) -> int:
    """The frame of a name, of its last part, or of the number that ends it."""
    if word in names:
        return list(names).index(word)
    by_end = [number for number, name in enumerate(names) if name.rsplit("/", 1)[-1] == word]
    if not by_end and word.isdigit():
        by_end = [number for number, name in enumerate(names) if _number_of(name) == int(word)]
    if len(by_end) == 1:
        return by_end[0]
    if by_end:
        both = f"'{names[by_end[0]]}' and '{names[by_end[1]]}'"
        raise ConfigError(f"--frames {word}: may be {both}; expected the whole name")
    raise ConfigError(
        f"--frames: no frame is called '{word}'; the {len(names)} frames are '{names[0]}' to "
        f"'{names[-1]}'"
    )


def _number_of(name: str) -> int | None:
    found = LAST_NUMBER.search(name)
    return int(found.group(1)) if found else None
