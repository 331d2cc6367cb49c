"""Walk a config beside the schema and name what does not belong: file, key path, nearest valid key."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import ConfigError
from .names import unknown_key
from .schema import Block, Free, ListOf, Node
from .values import KNOWN_NAMES, wrong_kind

# One slip in a name of ten letters still leaves nine in ten alike; names of real classes are farther apart.
TYPO_SIMILARITY = 0.85


def check(config: Mapping[str, Any], root: Block, origins: Mapping[str, str], file: str) -> None:
    """Raise a ConfigError for the first key or NAME that is not in the schema, and mention how many more there are."""
    problems = list(_problems(config, root, ""))
    if not problems:
        return
    path, text = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    raise ConfigError(f"{origin_of(path, origins, file)}: {text}{more}")


def origin_of(path: str, origins: Mapping[str, str], default: str) -> str:
    """The file that set ``path``, or the nearest block above it."""
    while path:
        if path in origins:
            return origins[path]
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return default


def is_open(node: Node | None, value: Any) -> bool:
    """Whether ``value`` may hold any key: a free place, or a block built by a class that is not OpenPCDet's."""
    if isinstance(node, Free):
        return True
    if not isinstance(node, Block) or not node.names or not isinstance(value, Mapping):
        return False
    return node.name_key in value and value[node.name_key] not in node.names


def closest_name(name: str, known: tuple[str, ...]) -> str | None:
    """The known name that ``name`` is a slip of; None for a name of its own, such as a known one with a prefix."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    if name.lower() in by_lower:
        return by_lower[name.lower()]
    if any(candidate in name.lower() and len(name) > len(candidate) + 1 for candidate in by_lower):
        return None
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=TYPO_SIMILARITY)
    return by_lower[close[0]] if close else None


def _problems(value: Any, node: Node, path: str) -> Iterator[tuple[str, str]]:
    """(key path, sentence) of everything wrong at and below ``path``."""
    if isinstance(node, Free) or value is None:
        return
    if isinstance(node, ListOf):
        yield from _list_problems(value, node, path)
    elif not isinstance(value, Mapping):
        yield path, f"{path}: expected a block of keys, got {value!r}"
    elif not is_open(node, value):
        yield from _block_problems(value, node, path)
    else:
        name = value[node.name_key]
        slip_of = closest_name(name, node.names) if isinstance(name, str) else None
        if slip_of:
            where = f"{path}.{node.name_key}".lstrip(".")
            yield where, f"{where}: unknown name '{name}'; did you mean '{slip_of}'?"


def _list_problems(value: Any, node: ListOf, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _problems(item, node.item, f"{path}[{index}]")
    elif node.or_block is not None:
        yield from _problems(value, node.or_block, path)
    else:
        yield path, f"{path}: expected a list of blocks, got {value!r}"


def _block_problems(value: Mapping[str, Any], node: Block, path: str) -> Iterator[tuple[str, str]]:
    for key, inner in value.items():
        place = f"{path}.{key}".lstrip(".")
        below = node.find(str(key))
        if below is None:
            yield place, unknown_key(str(key), node.keys, path=place)
        else:
            yield from _value_problems(str(key), inner, place)
            yield from _problems(inner, below, place)


def _value_problems(key: str, value: Any, place: str) -> Iterator[tuple[str, str]]:
    kind = wrong_kind(key, value)
    if kind:
        yield place, f"{place}: {kind}"
    elif isinstance(value, str):
        slip_of = closest_name(value, KNOWN_NAMES.get(key, ()))
        if slip_of and slip_of != value:
            yield place, f"{place}: unknown name '{value}'; did you mean '{slip_of}'?"
