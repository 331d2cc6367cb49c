"""Parts of a JSON file of a known format, each checked for what it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from ....errors import DataError
from .base import number

JsonObject: TypeAlias = Mapping[str, object]


def object_of(value: object, where: str) -> JsonObject:
    """The value, which must be an object."""
    if not isinstance(value, Mapping):
        raise DataError(f"{where}: is {_shown(value)}, expected an object")
    return value


def objects_of(value: object, where: str) -> list[JsonObject]:
    """The value, which must be a list of objects."""
    if not isinstance(value, list):
        raise DataError(f"{where}: is {_shown(value)}, expected a list of objects")
    return [object_of(entry, f"{where}[{index}]") for index, entry in enumerate(value)]


def vector_of(value: object, where: str) -> list[float]:
    """x, y, z of an object with these keys, or of a list of three numbers."""
    if isinstance(value, Mapping):
        return [number(value.get(axis), axis, where) for axis in "xyz"]
    if isinstance(value, list) and len(value) == 3:
        return [number(entry, axis, where) for axis, entry in zip("xyz", value)]
    raise DataError(f"{where}: is {_shown(value)}, expected x, y and z")


def _shown(value: object) -> str:
    """The value in a message: cut, because it may be a whole file."""
    text = "missing" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
