"""Options: a dataclass lists the keys that a block of yaml may hold, and what each accepts.

    @dataclass(frozen=True)
    class AttentionOptions:
        power: int = option(2, at_least=1, at_most=8, help="exponent of the attention")

    options = read_options(AttentionOptions, {"POWER": 4}, "DISTILL.TERMS.ATTENTION")

The keys of the yaml are the names of the fields in capitals. The same dataclass is the source of the
error messages, of the check of unknown keys and of the tables in docs/.
"""

from __future__ import annotations

import collections.abc
import copy
import dataclasses
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from ..errors import ConfigError
from .blocks import refuse_unknown_keys
from .names import nearest

Value = TypeVar("Value")
Options = TypeVar("Options")

RULE = "option"  # key of a dataclass field's metadata


@dataclasses.dataclass(frozen=True)
class Rule:
    """What an option means and which of the values of its type it accepts; see ``option``."""

    help: str = ""
    choices: tuple[str, ...] = ()
    above: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    values: str = ""

    def accepts(self, number: float) -> bool:
        """Whether a number is within the limits; NaN is not within any."""
        return (
            (self.above is None or number > self.above)
            and (self.at_least is None or number >= self.at_least)
            and (self.at_most is None or number <= self.at_most)
        )

    @property
    def limits(self) -> str:
        """The limits in words, to follow "a number"; empty when there are none."""
        if self.above is not None:
            upper = "" if self.at_most is None else f" and up to {self.at_most:g}"
            return f" above {self.above:g}{upper}"
        if self.at_least is not None:
            upper = "up" if self.at_most is None else f"to {self.at_most:g}"
            return f" from {self.at_least:g} {upper}"
        return "" if self.at_most is None else f" up to {self.at_most:g}"


@dataclasses.dataclass(frozen=True)
class OptionInfo:
    """A row of a table of options; ``accepts`` and ``help`` are words, ``default`` is the value."""

    key: str
    accepts: str
    default: object
    help: str


def option(
    default: Value,
    *,
    help: str,
    choices: Sequence[str] = (),
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    values: str = "",
) -> Value:
    """A field of a dataclass of options.

    Args:
        default: value of the option where the yaml does not have the key; every instance gets
            its own copy of a list or a dict.
        help: what the option means, one phrase for the table in docs/.
        choices: the accepted texts; of a list, those of its entries.
        above: a number must be greater than this.
        at_least: a number must not be less than this.
        at_most: a number must not be greater than this.
        values: what the table shows as accepted, where the type and its limits tell too little.
    """
    rule = Rule(help, tuple(choices), above, at_least, at_most, values)
    metadata = {RULE: rule}
    field: Any
    if isinstance(default, (list, dict)):
        field = dataclasses.field(default_factory=lambda: copy.copy(default), metadata=metadata)
    else:
        field = dataclasses.field(default=default, metadata=metadata)
    return field


def option_keys(options: type[object] | object) -> tuple[str, ...]:
    """The keys of yaml that a dataclass of options knows."""
    return tuple(key for key, _ in _fields(options))


def read_options(
    options: type[Options] | Options,
    cfg: object,
    where: str,
    also_known: Iterable[str] = (),
) -> Options:
    """Options with the values of a block of yaml.

    Args:
        options: the dataclass, or an instance of it whose values are the defaults.
        cfg: the block. A null stands for a key that is not there.
        where: key path of the block, for error messages.
        also_known: keys that the block may hold as well; the caller reads them itself.

    Raises:
        ConfigError: for an unknown key, and for a value of another type or outside its limits.
    """
    fields = dict(_fields(options))
    refuse_unknown_keys(cfg, (*fields, *also_known), where)
    assert isinstance(cfg, Mapping)
    defaults = options() if isinstance(options, type) else options
    types_of_fields = typing.get_type_hints(type(defaults))
    changes = {}
    for key, field in fields.items():
        if cfg.get(key) is not None:
            kind = _without_none(types_of_fields[field.name])
            changes[field.name] = _read_value(cfg[key], kind, _rule(field), f"{where}.{key}")
    return dataclasses.replace(defaults, **changes)  # type: ignore[type-var]


def option_table(options: type[object] | object) -> list[OptionInfo]:
    """The options of a dataclass, in the order of its fields."""
    cls = options if isinstance(options, type) else type(options)
    types_of_fields = typing.get_type_hints(cls)
    defaults = cls() if isinstance(options, type) else options
    table = []
    for key, field in _fields(options):
        rule = _rule(field)
        kind = _without_none(types_of_fields[field.name])
        default = getattr(defaults, field.name)
        table.append(OptionInfo(key, _accepted(kind, rule), default, rule.help))
    return table


def describe(kind: object, rule: Rule) -> str:
    """What an option of this type accepts, in words: ``a whole number from 1 up``."""
    item = _item_kind(kind)
    if item is not None:
        return f"a list of {_PLURALS.get(item, 'entries')}"
    if dataclasses.is_dataclass(kind) or _is_mapping(kind):
        return "a block of keys"
    words = _WORDS.get(kind, "any value")
    return words + rule.limits


def _accepted(kind: object, rule: Rule) -> str:
    """What the table shows as accepted; choices stand in the marks of code that Markdown uses."""
    if not rule.choices:
        return rule.values or describe(kind, rule)
    listed = ", ".join(f"`{choice}`" for choice in rule.choices)
    return listed if _item_kind(kind) is None else f"a list of: {listed}"


def _fields(options: type[object] | object) -> list[tuple[str, dataclasses.Field[Any]]]:
    """(key of the yaml, field) of every option."""
    fields = dataclasses.fields(options)  # type: ignore[arg-type]
    return [(field.name.upper(), field) for field in fields]


def _rule(field: dataclasses.Field[Any]) -> Rule:
    rule: Rule = field.metadata.get(RULE, Rule())
    return rule


def _read_value(value: object, kind: Any, rule: Rule, where: str) -> object:
    """``value`` as an instance of ``kind``, or a ConfigError."""
    if dataclasses.is_dataclass(kind):
        return read_options(kind, value, where)
    item = _item_kind(kind)
    if item is not None and isinstance(value, (list, tuple)):
        container = list if typing.get_origin(kind) is list else tuple
        return container(
            _read_value(entry, item, rule, f"{where}[{index}]") for index, entry in enumerate(value)
        )
    if item is None and rule.choices:
        return _read_choice(value, rule.choices, where)
    if not _is_a(value, kind, rule):
        raise ConfigError(f"{where}: expected {describe(kind, rule)}, found {value!r}")
    return kind(value) if kind in (int, float) else value


def _read_choice(value: object, choices: Sequence[str], where: str) -> str:
    text = str(value)
    if text not in choices:
        raise ConfigError(f"{where}: unknown value '{text}'{nearest(text, choices)}")
    return text


def _is_a(value: object, kind: object, rule: Rule) -> bool:
    """Whether a value may stand for one of ``kind``, within the limits."""
    if _is_mapping(kind):
        return isinstance(value, Mapping)
    if _item_kind(kind) is not None:
        return False  # lists were read before
    check = _CHECKS.get(kind)
    if check is not None and not check(value):
        return False
    return kind not in (int, float) or rule.accepts(value)  # type: ignore[arg-type]


def _is_number(value: object) -> bool:
    """True and False are numbers in Python but not in yaml."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return _is_number(value) and float(value).is_integer()  # type: ignore[arg-type]


_CHECKS: dict[object, Callable[[object], bool]] = {
    bool: lambda value: isinstance(value, bool),
    int: _is_whole,
    float: _is_number,
    str: lambda value: isinstance(value, str),
}
_WORDS: dict[object, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
}
_PLURALS: dict[object, str] = {int: "whole numbers", float: "numbers", str: "texts"}


def _without_none(kind: Any) -> Any:
    """``int`` of ``int | None``; any other type as it is."""
    if not isinstance(kind, types.UnionType) and typing.get_origin(kind) is not typing.Union:
        return kind
    members = [member for member in typing.get_args(kind) if member is not type(None)]
    return members[0] if len(members) == 1 else object


def _item_kind(kind: object) -> Any:
    """``float`` of ``list[float]`` and of ``tuple[float, ...]``; None for what is no list."""
    if typing.get_origin(kind) in (list, tuple, collections.abc.Sequence):
        return typing.get_args(kind)[0]
    return None


def _is_mapping(kind: object) -> bool:
    return typing.get_origin(kind) in (dict, collections.abc.Mapping)
