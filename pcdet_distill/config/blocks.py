"""Blocks of a config: reading a key that must be there, comparing lists, writing them out again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..types import ConfigDict
from .names import nearest, unknown_key


def required(block: object, key: str, where: str) -> Any:
    """``block[key]``; null counts as missing.

    The ConfigError for a missing key names ``where.key`` and the nearest key that is there.
    """
    if not isinstance(block, Mapping):
        raise ConfigError(f"{where}: expected a block of keys with {key}, got {block!r}")
    if block.get(key) is None:
        others = [name for name in block if name != key]
        raise ConfigError(f"{where}.{key} is missing{nearest(key, others)}")
    return block[key]


def same_length(lists: Mapping[str, Sequence[object]], where: str) -> int:
    """The common length of lists that belong together; different lengths are a ConfigError."""
    lengths = {name: len(values) for name, values in lists.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ConfigError(f"{where}: these lists must be equally long: {listed}")
    return next(iter(lengths.values()))


def as_block(value: object, where: str) -> ConfigDict:
    """``value``, or a ConfigError where it is no block of keys; ``where`` is its key path."""
    if not isinstance(value, Mapping):
        before = f"{where}: " if where else ""
        raise ConfigError(f"{before}expected a block of keys, found {value!r}")
    return value


def refuse_unknown_keys(block: object, known: Iterable[str], where: str) -> None:
    """Raise a ConfigError for the first key of ``block`` that is not among ``known``.

    Args:
        block: must be a block of keys; anything else is a ConfigError too.
        known: the keys that are accepted.
        where: key path of the block, such as ``DISTILL.TEACHER``; empty for a whole file.
    """
    before = f"{where}: " if where else ""
    accepted = list(known)
    for key in as_block(block, where):
        if key not in accepted:
            raise ConfigError(before + unknown_key(str(key), accepted))


def to_plain(cfg: object) -> Any:
    """Plain dicts, lists and scalars, for yaml or json. Paths become text."""
    if isinstance(cfg, Mapping):
        return {key: to_plain(value) for key, value in cfg.items()}
    if isinstance(cfg, (list, tuple)):
        return [to_plain(value) for value in cfg]
    if isinstance(cfg, Path):
        return str(cfg)
    return cfg


@contextlib.contextmanager
def errors_name_file(cfg: ConfigDict) -> Iterator[None]:
    """Put ``cfg.CONFIG_FILE`` before every ConfigError raised inside the ``with`` block.

    Modules are built from blocks of the config and cannot know the file these were read from.
    """
    try:
        yield
    except ConfigError as error:
        file = str(cfg.get("CONFIG_FILE", ""))
        if not file or file in str(error):
            raise
        raise ConfigError(f"{file}: {error}") from error
