"""``--set KEY VALUE ...``: OpenPCDet's rules for values typed on a command line.

A value must have the type of the one it replaces (an int may stand for a float). ``k1:v1,k2:v2`` changes keys of a
block, a comma list, in brackets or not, replaces a list. A path that does not exist yet is fine when the schema knows
it; items of a list are numbered from 0.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from ..errors import ConfigError
from .blocks import refuse_unknown_keys
from .check import is_open
from .names import unknown_key
from .schema import FREE, Block, ListOf, Node

ORIGIN = "--set"
_YAML_WORDS = {"true": True, "false": False, "null": None}
_MISSING = object()


def apply_overrides(
    config: dict[str, Any], overrides: Sequence[str], root: Block, origins: dict[str, str]
) -> None:
    """Write the pairs ``[path, value, path, value, ...]`` into ``config``; ``origins`` learns what came from --set."""
    if len(overrides) % 2:
        raise ConfigError(f"{ORIGIN} takes pairs of KEY VALUE, but {overrides[-1]} has no value")
    for path, text in zip(overrides[::2], overrides[1::2]):
        _set(config, str(path), text, root)
        origins[str(path)] = ORIGIN


def _set(config: dict[str, Any], path: str, text: Any, root: Block) -> None:
    *blocks, last = path.split(".")
    place: Any = config
    node: Node = root
    for key in blocks:
        node, inner = _step(place, node, key, path)
        if inner is _MISSING or inner is None:
            inner = place[key] = {}
        place = inner
    node, old = _step(place, node, last, path)
    value = coerce(text, None if old is _MISSING else old, path)
    place[int(last) if isinstance(place, list) else last] = value


def _step(place: Any, node: Node, key: str, path: str) -> tuple[Node, Any]:
    """The schema node and the present value under ``key`` of ``place``."""
    if isinstance(place, list):
        if not key.isdigit() or int(key) >= len(place):
            raise ConfigError(f"{ORIGIN} {path}: '{key}' is not an item of a list of {len(place)}")
        return (node.item if isinstance(node, ListOf) else FREE), place[int(key)]
    if not isinstance(place, dict):
        raise ConfigError(
            f"{ORIGIN} {path}: there is no key '{key}', what stands there is {place!r}"
        )
    if isinstance(node, ListOf):
        node = node.or_block or FREE
    known = FREE if is_open(node, place) else node.find(key) if isinstance(node, Block) else FREE
    if key not in place and known is None:
        names = {*place, *(node.keys if isinstance(node, Block) else ())}
        raise ConfigError(f"{ORIGIN} {path}: {unknown_key(key, names)}")
    return known or FREE, place.get(key, _MISSING)


def coerce(text: Any, old: Any, path: str) -> Any:
    """``text`` as a value that may replace ``old`` (None: anything may)."""
    value = _literal(text)
    if old is None or type(value) is type(old):
        return value
    if isinstance(old, dict):
        return _merge_block(value, old, path)
    if isinstance(old, list):
        return _as_list(value, old, path)
    if isinstance(old, float) and type(value) is int:
        return float(value)
    if isinstance(old, str) and isinstance(text, str):
        return text
    raise ConfigError(
        f"{ORIGIN} {path} {text}: expected {type(old).__name__} as in {old!r}, got {type(value).__name__}"
    )


def _literal(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    if text.lower() in _YAML_WORDS:
        return _YAML_WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _as_list(value: Any, old: list, path: str) -> list:
    if isinstance(value, str):
        items = [item.strip() for item in value.removeprefix("[").removesuffix("]").split(",")]
    else:
        items = list(value) if isinstance(value, tuple) else [value]
    sample = old[0] if old and not isinstance(old[0], (list, dict)) else None
    if type(sample) is int and any(type(_literal(item)) is float for item in items):
        sample = 0.0  # a range written in whole metres may be replaced by one that is not
    return [coerce(item, sample, path) for item in items]


def _merge_block(value: Any, old: dict, path: str) -> dict:
    if not isinstance(value, dict):
        pairs = [pair.split(":", 1) for pair in str(value).split(",")]
        if any(len(pair) != 2 for pair in pairs):
            raise ConfigError(
                f"{ORIGIN} {path} {value}: expected a block, written as key1:value1,key2:value2"
            )
        value = {key.strip(): item for key, item in pairs}
    refuse_unknown_keys(value, old, f"{ORIGIN} {path}")
    return {**old, **{key: coerce(item, old[key], f"{path}.{key}") for key, item in value.items()}}
