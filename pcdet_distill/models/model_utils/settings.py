"""Reading a MODEL block: a setting that does not fit is answered with where it stands, not with a traceback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...errors import ConfigError
from ...lookup import required

__all__ = ["required", "same_length"]


def same_length(lists: Mapping[str, Sequence], where: str) -> int:
    """The common length of lists that describe the same things, or a ConfigError that tells their lengths."""
    lengths = {name: len(values) for name, values in lists.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ConfigError(f"{where}: these lists must be equally long: {told}")
    return next(iter(lengths.values()))
