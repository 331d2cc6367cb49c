"""The one way a NAME in a yaml file becomes a class, and the one way a wrong or missing name is answered."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from .errors import ConfigError

Entry = TypeVar("Entry")


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a misspelt name: ``"; did you mean 'MeanVFE'?"``, or the list of known names when none is near."""
    names = sorted(map(str, known))
    by_lower = {candidate.lower(): candidate for candidate in names}
    close = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{by_lower[close[0]]}'?"
    return f"; known: {', '.join(names) or 'none'}"


def lookup(table: Mapping[str, Entry], name: str, where: str) -> Entry:
    """``table[name]``, or a ConfigError that says where the name stands and what is nearest to it."""
    if name in table:
        return table[name]
    raise ConfigError(f"{where}: unknown name '{name}'{nearest(name, table)}")


def required(block: Any, key: str, where: str) -> Any:
    """``block[key]``, or a ConfigError naming ``where.key`` and the nearest key there is; null counts as missing."""
    if not isinstance(block, Mapping):
        raise ConfigError(f"{where}: expected a block of keys with {key}, got {block!r}")
    if block.get(key) is None:
        raise ConfigError(
            f"{where}.{key} is missing{nearest(key, [name for name in block if name != key])}"
        )
    return block[key]
