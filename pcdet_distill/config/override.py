"""``--set KEY VALUE ...``: OpenPCDet's rules for values typed on a command line.

A value must have the type of the one it replaces; an int may stand for a float. ``k1:v1,k2:v2``
changes keys of a block; a comma list, in brackets or not, replaces a list. A key that the files
do not have may be set when it is in the schema. Entries of a list are numbered from 0.

Keys of the data may be written with or without ``DATA_CONFIG.`` in front. So the same pair means
the same for a dataset file and for an experiment.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Sequence
from typing import Any

from ..errors import ConfigError
from ..types import MutableConfig
from .blocks import refuse_unknown_keys
from .check import is_open
from .names import unknown_key
from .nodes import FREE, Block, ListOf, Node
from .schema import DATA_CONFIG
from .yaml_files import MAX_VALUE_LENGTH, MAX_WHOLE_NUMBER

ORIGIN = "--set"
# A term of a distillation has a number or a block here, and one may replace the other.
TERMS_PREFIX = "DISTILL.TERMS."
WEIGHT_SUFFIX = ".WEIGHT"
DATA_PREFIX = "DATA_CONFIG"

_YAML_WORDS = {"true": True, "false": False, "null": None}
_MISSING = object()


def add_set_argument(
    parser: argparse.ArgumentParser, *, example: str = "DATA_PATH data/mine"
) -> None:
    """Add ``--set KEY VALUE ...``, whose words are in ``set_cfgs``."""
    parser.add_argument(
        ORIGIN,
        dest="set_cfgs",
        nargs=argparse.REMAINDER,
        default=[],
        metavar="KEY VALUE",
        help=f"change values of the yaml, e.g. --set {example}; takes the rest of the line",
    )


def apply_overrides(
    config: MutableConfig, overrides: Sequence[str], root: Block, origins: dict[str, str]
) -> None:
    """Write the pairs of ``--set`` into a config.

    Args:
        config: changed in place.
        overrides: ``[path, value, path, value, ...]``.
        root: the schema of the file.
        origins: key path -> what set it; ``--set`` is entered for every path.
    """
    for path in overrides[::2]:
        if str(path).startswith("--"):
            raise ConfigError(
                f"{ORIGIN} takes the rest of the line as pairs of KEY VALUE; "
                f"write {path} before {ORIGIN}"
            )
    if len(overrides) % 2:
        raise ConfigError(f"{ORIGIN} takes pairs of KEY VALUE, but {overrides[-1]} has no value")
    for path, text in zip(overrides[::2], overrides[1::2]):
        full_path = _full_path(str(path), root)
        _set(config, full_path, text, root)
        origins[full_path] = ORIGIN


def coerce(text: object, old: object, path: str) -> Any:
    """The value that a text of the command line stands for.

    Args:
        text: as typed; a value that is not text stands for itself.
        old: the value that is replaced; None where there is none, then anything is accepted.
        path: key path, for error messages.
    """
    value = _literal(text)
    if path.startswith(TERMS_PREFIX) and path.endswith(WEIGHT_SUFFIX):
        return _weight_of_term(value, old, path)
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
    expected = type(old).__name__
    found = type(value).__name__
    raise ConfigError(f"{ORIGIN} {path} {text}: expected {expected} as in {old!r}, got {found}")


def _full_path(path: str, root: Block) -> str:
    """The key path in this file: ``DATA_PATH`` and ``DATA_CONFIG.DATA_PATH`` are the same key."""
    first, _, rest = path.partition(".")
    if root is DATA_CONFIG:
        return rest if first == DATA_PREFIX and rest else path
    belongs_to_data = root.find(first) is None and first in DATA_CONFIG.keys
    return f"{DATA_PREFIX}.{path}" if belongs_to_data else path


def _set(config: MutableConfig, path: str, text: object, root: Block) -> None:
    """Walk down ``path`` through config and schema together, and replace the value at its end."""
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


def _step(place: object, node: Node, key: str, path: str) -> tuple[Node, Any]:
    """The schema node and the present value under ``key`` of ``place``."""
    if isinstance(place, list):
        if not key.isdecimal() or int(key) >= len(place):
            raise ConfigError(f"{ORIGIN} {path}: '{key}' is not an item of a list of {len(place)}")
        return (node.item if isinstance(node, ListOf) else FREE), place[int(key)]
    if not isinstance(place, dict):
        raise ConfigError(
            f"{ORIGIN} {path}: there is no key '{key}', what stands there is {place!r}"
        )
    if isinstance(node, ListOf):
        node = node.or_block or FREE
    return _known_below(place, node, key, path), place.get(key, _MISSING)


def _known_below(place: MutableConfig, node: Node, key: str, path: str) -> Node:
    """The schema node under ``key``; a key that neither schema nor config has is refused."""
    if not isinstance(node, Block) or is_open(node, place):
        return FREE
    below = node.find(key)
    if below is None and key not in place:
        raise ConfigError(f"{ORIGIN} {path}: {unknown_key(key, {*place, *node.keys})}")
    return below or FREE


def _literal(text: object) -> Any:
    """``0.01`` as a number, ``true`` as a bool, ``[1, 2]`` as a list; any other text as it is."""
    if not isinstance(text, str):
        return text
    if text.lower() in _YAML_WORDS:
        return _YAML_WORDS[text.lower()]
    if len(text) > MAX_VALUE_LENGTH:
        raise ConfigError(f"{ORIGIN}: a value of {len(text)} characters, expected a short one")
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
    # No float or tensor holds a longer whole number; as text it is refused where a number belongs.
    is_too_long = isinstance(value, int) and abs(value) > MAX_WHOLE_NUMBER
    return text if is_too_long else value


def _weight_of_term(value: object, old: object, path: str) -> object:
    """A number, a block in place of what was there, or keys of the block that is there."""
    if value is None or isinstance(value, (int, float)):
        return value
    changes = value if isinstance(value, dict) else _key_value_pairs(str(value), path)
    if isinstance(old, dict) and set(changes) <= set(old):
        return _merge_block(changes, old, path)
    return {key: _literal(item) for key, item in changes.items()}


def _as_list(value: object, old: list[object], path: str) -> list[object]:
    items: list[object]
    if isinstance(value, str):
        items = [item.strip() for item in value.removeprefix("[").removesuffix("]").split(",")]
    elif isinstance(value, tuple):
        items = list(value)
    else:
        items = [value]
    return [coerce(item, _sample_of(old, items), path) for item in items]


def _sample_of(old: list[object], items: list[object]) -> object:
    """An entry of the old list whose type the new entries must have; None where there is none."""
    if not old or isinstance(old[0], (list, dict)):
        return None
    # A range written in whole metres may be replaced by one with fractions.
    has_fractions = any(type(_literal(item)) is float for item in items)
    if type(old[0]) is int and has_fractions:
        return 0.0
    return old[0]


def _merge_block(value: object, old: MutableConfig, path: str) -> MutableConfig:
    changes = value if isinstance(value, dict) else _key_value_pairs(str(value), path)
    refuse_unknown_keys(changes, old, f"{ORIGIN} {path}")
    merged = dict(old)
    for key, item in changes.items():
        merged[key] = coerce(item, old[key], f"{path}.{key}")
    return merged


def _key_value_pairs(text: str, path: str) -> dict[str, str]:
    """``{"train": "trainval", "test": "val"}`` of ``train:trainval,test:val``."""
    pairs = {}
    for part in text.split(","):
        key, colon, item = part.partition(":")
        if not colon:
            raise ConfigError(
                f"{ORIGIN} {path} {text}: expected a block, written as key1:value1,key2:value2"
            )
        pairs[key.strip()] = item
    return pairs
