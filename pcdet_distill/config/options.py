"""Options: a dataclass lists the keys that a block of yaml may hold, and what each accepts.

    @dataclass(frozen=True)
    class AttentionOptions:
        power: int = option(2, at_least=1, at_most=8, help="exponent of the attention")

    options = read_options(AttentionOptions, {"POWER": 4}, "DISTILL.TERMS.ATTENTION")

The keys of the yaml are the names of the fields in capitals. The same dataclass is the source of
the error messages, of the check of unknown keys and of the tables in docs/.
"""

from __future__ import annotations

import copy
import dataclasses
import typing
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

from .blocks import as_block, refuse_unknown_keys
from .option_values import Rule, describe, item_kind, read_value, without_none

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Value = TypeVar("Value")
Options = TypeVar("Options", bound="DataclassInstance")

RULE = "option"  # key of a dataclass field's metadata


@dataclasses.dataclass(frozen=True)
class NoOptions:
    """The options of a loss or transform that has none."""


class OptionField(NamedTuple):
    """A field of a dataclass of options: its name, key in yaml, type (without None) and rule."""

    name: str
    key: str
    kind: Any
    rule: Rule


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
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: copy.copy(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def option_keys(options: type[DataclassInstance]) -> tuple[str, ...]:
    """The keys of yaml that a dataclass of options reads."""
    return tuple(field.name.upper() for field in dataclasses.fields(options))


@overload
def read_options(
    options: type[Options], cfg: object, where: str, also_known: Iterable[str] = ()
) -> Options: ...


@overload
def read_options(
    options: Options, cfg: object, where: str, also_known: Iterable[str] = ()
) -> Options: ...


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
    defaults = options() if isinstance(options, type) else options
    block = as_block(cfg, where)
    refuse_unknown_keys(block, (*option_keys(type(defaults)), *also_known), where)
    changes: dict[str, object] = {}
    for name, key, kind, rule in _option_fields(type(defaults)):
        value = block.get(key)
        if value is None:
            continue
        if dataclasses.is_dataclass(kind):
            changes[name] = read_options(kind, value, f"{where}.{key}")
        else:
            changes[name] = read_value(value, kind, rule, f"{where}.{key}")
    return dataclasses.replace(defaults, **changes)


def option_table(options: DataclassInstance) -> list[OptionInfo]:
    """The options of a dataclass in the order of its fields; the instance gives the defaults."""
    table = []
    for name, key, kind, rule in _option_fields(type(options)):
        default = getattr(options, name)
        table.append(OptionInfo(key, _accepted(kind, rule), default, rule.help))
    return table


def _option_fields(options: type[DataclassInstance]) -> Iterator[OptionField]:
    types_of_fields = typing.get_type_hints(options)
    for field in dataclasses.fields(options):
        kind = without_none(types_of_fields[field.name])
        rule = field.metadata.get(RULE, Rule())
        yield OptionField(field.name, field.name.upper(), kind, rule)


def _accepted(kind: object, rule: Rule) -> str:
    """What the table shows as accepted; choices stand in the marks of code that Markdown uses."""
    if rule.choices:
        listed = ", ".join(f"`{choice}`" for choice in rule.choices)
        return listed if item_kind(kind) is None else f"a list of: {listed}"
    if rule.values:
        return rule.values
    return "a block of keys" if dataclasses.is_dataclass(kind) else describe(kind, rule)
