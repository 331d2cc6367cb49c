"""The value of one option: what its type and its rule accept, in code and in words."""

from __future__ import annotations

import collections.abc
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError
from .names import nearest
from .values import is_number, is_text


@dataclass(frozen=True)
class Rule:
    """What an option means and which values of its type it accepts; see ``options.option``."""

    help: str = ""
    choices: tuple[str, ...] = ()
    above: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    values: str = ""

    def accepts(self, number: float) -> bool:
        """Whether a number is within the limits. NaN never is, as every comparison fails."""
        return (
            (self.above is None or number > self.above)
            and (self.at_least is None or number >= self.at_least)
            and (self.at_most is None or number <= self.at_most)
        )

    @property
    def limits(self) -> str:
        """The limits in words that follow "a number"; empty when there are none."""
        if self.above is not None:
            upper = "" if self.at_most is None else f" and up to {self.at_most:g}"
            return f" above {self.above:g}{upper}"
        if self.at_least is not None:
            upper = "up" if self.at_most is None else f"to {self.at_most:g}"
            return f" from {self.at_least:g} {upper}"
        return "" if self.at_most is None else f" up to {self.at_most:g}"


@dataclass(frozen=True)
class Scalar:
    """A type without parts.

    Attributes:
        words: one such value in a message.
        plural: several of them.
        fits: whether a value of yaml may stand for this type.
    """

    words: str
    plural: str
    fits: Callable[[Any], bool]


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return is_number(value) and float(value).is_integer()


SCALARS: dict[object, Scalar] = {
    bool: Scalar("true or false", "entries true or false", _is_bool),
    int: Scalar("a whole number", "whole numbers", _is_whole),
    float: Scalar("a number", "numbers", is_number),
    str: Scalar("text", "texts", is_text),
}


def read_value(value: Any, kind: Any, rule: Rule, where: str) -> object:
    """A value of yaml as the type of its option.

    Args:
        value: as read from the file.
        kind: type of the option, without None: a scalar, a list or tuple, a Mapping. Any value is
            accepted for another type.
        rule: choices and limits, of a list those of its entries.
        where: key path, for the ConfigError.
    """
    item = item_kind(kind)
    if item is not None and isinstance(value, (list, tuple)):
        entries = [
            read_value(entry, item, rule, f"{where}[{index}]") for index, entry in enumerate(value)
        ]
        return entries if typing.get_origin(kind) is list else tuple(entries)
    if rule.choices and item is None:
        return _read_choice(value, rule.choices, where)
    if not _fits(value, kind, rule):
        raise ConfigError(f"{where}: expected {describe(kind, rule)}, found {value!r}")
    if kind is int or kind is float:
        return kind(value)
    return value


def describe(kind: object, rule: Rule) -> str:
    """What an option accepts, in words: ``a whole number from 1 up``."""
    item = item_kind(kind)
    if item is not None:
        return f"a list of {SCALARS[item].plural}" if item in SCALARS else "a list"
    if is_mapping(kind):
        return "a block of keys"
    if kind in SCALARS:
        return SCALARS[kind].words + rule.limits
    return "any value"


def without_none(kind: Any) -> Any:
    """``int`` of ``int | None``; any other type as it is."""
    is_union = isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union
    if not is_union:
        return kind
    members = [member for member in typing.get_args(kind) if member is not type(None)]
    return members[0] if len(members) == 1 else object


def item_kind(kind: object) -> Any:
    """``float`` of ``list[float]`` and of ``tuple[float, ...]``; None for what is no list."""
    if typing.get_origin(kind) in (list, tuple, collections.abc.Sequence):
        return typing.get_args(kind)[0]
    return None


def is_mapping(kind: object) -> bool:
    """Whether a type is a dict or a Mapping."""
    return typing.get_origin(kind) in (dict, collections.abc.Mapping)


def _read_choice(value: object, choices: Sequence[str], where: str) -> str:
    text = str(value)
    if text not in choices:
        raise ConfigError(f"{where}: unknown value '{text}'{nearest(text, choices)}")
    return text


def _fits(value: Any, kind: object, rule: Rule) -> bool:
    """Whether a value may stand for one of this type, within the limits."""
    if item_kind(kind) is not None:
        return False  # read_value has dealt with lists
    if is_mapping(kind):
        return isinstance(value, Mapping)
    if kind not in SCALARS:
        return True
    is_numeric = kind is int or kind is float
    return SCALARS[kind].fits(value) and (not is_numeric or rule.accepts(value))
