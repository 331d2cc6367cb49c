"""Reading a MODEL block: a setting that is not there is answered with where it should stand, not with a traceback."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import ConfigError
from ...lookup import nearest


def required(block: Mapping[str, Any], key: str, where: str) -> Any:
    """``block[key]``, or a ConfigError naming ``where.key`` and the nearest key that is there."""
    if key in block:
        return block[key]
    raise ConfigError(f"{where}.{key} is missing{nearest(key, block)}")


def same_length(lists: Mapping[str, Sequence], where: str) -> int:
    """The common length of lists that describe the same things, or a ConfigError that tells their lengths."""
    lengths = {name: len(values) for name, values in lists.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ConfigError(f"{where}: these lists must be equally long: {told}")
    return next(iter(lengths.values()))
