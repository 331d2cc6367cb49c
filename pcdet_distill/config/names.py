"""Names in a yaml file: how one becomes a class, and the message for one that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from ..errors import ConfigError

Entry = TypeVar("Entry")

# difflib's similarity, from 0 to 1, above which a known name is suggested.
SUGGESTED_SIMILARITY = 0.6


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name.

    ``"; did you mean 'MeanVFE'?"``, or the list of all known names when none is similar.
    """
    names = sorted(map(str, known))
    similar = most_similar(str(name), names, SUGGESTED_SIMILARITY)
    if similar is not None:
        return f"; did you mean '{similar}'?"
    return f"; known: {', '.join(names) or 'none'}"


def most_similar(name: str, known: Iterable[str], at_least: float) -> str | None:
    """The known name most like ``name``, upper and lower case alike; None below ``at_least``."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    similar = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=at_least)
    return by_lower[similar[0]] if similar else None


def lookup(table: Mapping[str, Entry], name: str, where: str) -> Entry:
    """``table[name]``; a ConfigError names ``where`` and the nearest known name."""
    if not isinstance(name, str):  # yaml can hold a list here
        raise ConfigError(f"{where}: {name!r} is no name; expected one of {', '.join(table)}")
    if name in table:
        return table[name]
    raise ConfigError(f"{where}: unknown name {name!r}{nearest(name, table)}")


def unknown_key(key: str, known: Iterable[str], path: str = "") -> str:
    """``"unknown key 'LRR'; did you mean 'LR'?"``; a full ``path`` is shown instead of the key."""
    shown = path or f"'{key}'"
    return f"unknown key {shown}{nearest(key, known)}"
