"""Phrases for messages about checkpoints."""

from __future__ import annotations

from collections.abc import Iterable

# Longer lists of names are cut in messages.
NAMES_SHOWN = 10


def shorten(names: Iterable[str]) -> str:
    """The first names of a list, and how many more there are."""
    names = list(names)
    more = f", and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more
