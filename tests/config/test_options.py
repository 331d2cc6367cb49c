"""Options: a dataclass reads a block of yaml, refuses what does not fit, and describes itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from pcdet_distill.config import DistillOptions, option, option_table, read_options
from pcdet_distill.config.nodes import Block
from pcdet_distill.config.schema import DISTILL, MODEL
from pcdet_distill.errors import ConfigError
from pcdet_distill.types import ConfigDict


@dataclass(frozen=True)
class Adapter:
    """A block inside a block."""

    width: int = option(8, at_least=1, help="channels")


@dataclass(frozen=True)
class Example:
    """One option of every type."""

    count: int = option(3, above=0, help="how many")
    share: float = option(0.5, at_least=0, at_most=1, help="part of the whole")
    part: float = option(0.5, above=0, at_most=1, help="a part that is not empty")
    any_number: float = option(1.0, help="a number without limits")
    small: float = option(1.0, at_most=2, help="a number with an upper limit")
    shown: bool = option(False, help="whether")
    name: str = option("x", help="text")
    mode: str = option("none", choices=("none", "max", "mean"), help="which way")
    limit: int | None = option(None, at_least=0, help="none by default")
    seen: bool | None = option(True, help="on by default")
    widths: tuple[int, ...] = option((4, 8), at_least=1, help="channels of the layers")
    ranges: list[float] = option([0.0, 1.0], help="from, to")
    modes: tuple[str, ...] = option((), choices=("a", "b"), help="several")
    adapter: Adapter = option(Adapter(), help="a nested block")
    blocks: Mapping[str, ConfigDict] = option({}, help="blocks under any name")
    free: object = option(None, help="not checked here")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("COUNT", 5, 5),
        ("COUNT", 5.0, 5),
        ("SHARE", 1, 1.0),
        ("ANY_NUMBER", -7, -7.0),
        ("SHOWN", True, True),
        ("NAME", "y", "y"),
        ("MODE", "max", "max"),
        ("LIMIT", 2, 2),
        ("SEEN", False, False),
        ("WIDTHS", [1, 2.0, 3], (1, 2, 3)),
        ("RANGES", [1, 2], [1.0, 2.0]),
        ("MODES", ["b"], ("b",)),
        ("ADAPTER", {"WIDTH": 2}, Adapter(2)),
        ("BLOCKS", {"A": {"B": 1}}, {"A": {"B": 1}}),
        ("FREE", [1, {"x": 2}], [1, {"x": 2}]),
        ("COUNT", None, 3),
        ("LIMIT", None, None),
        ("ADAPTER", None, Adapter(8)),
    ],
)
def test_a_value_gets_the_type_of_its_field(key: str, value: object, expected: object) -> None:
    read = getattr(read_options(Example, {key: value}, "T"), key.lower())
    assert read == expected
    assert type(read) is type(expected)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"COUNTS": 1}, "T: unknown key 'COUNTS'; did you mean 'COUNT'?"),
        ({"count": 1}, "T: unknown key 'count'; did you mean 'COUNT'?"),
        ([1], "T: expected a block of keys, found [1]"),
        ({"COUNT": "a"}, "T.COUNT: expected a whole number above 0, found 'a'"),
        ({"COUNT": 1.5}, "T.COUNT: expected a whole number above 0, found 1.5"),
        ({"COUNT": True}, "T.COUNT: expected a whole number above 0, found True"),
        ({"COUNT": 0}, "T.COUNT: expected a whole number above 0, found 0"),
        ({"COUNT": float("inf")}, "T.COUNT: expected a whole number above 0, found inf"),
        ({"SHARE": 1.5}, "T.SHARE: expected a number from 0 to 1, found 1.5"),
        ({"SHARE": float("nan")}, "T.SHARE: expected a number from 0 to 1, found nan"),
        ({"PART": 0}, "T.PART: expected a number above 0 and up to 1, found 0"),
        ({"SMALL": 3}, "T.SMALL: expected a number up to 2, found 3"),
        ({"SHOWN": 1}, "T.SHOWN: expected true or false, found 1"),
        ({"NAME": 5}, "T.NAME: expected text, found 5"),
        ({"MODE": "mex"}, "T.MODE: unknown value 'mex'; did you mean 'max'?"),
        ({"LIMIT": -1}, "T.LIMIT: expected a whole number from 0 up, found -1"),
        ({"WIDTHS": 3}, "T.WIDTHS: expected a list of whole numbers, found 3"),
        ({"WIDTHS": [1, 0]}, "T.WIDTHS[1]: expected a whole number from 1 up, found 0"),
        ({"RANGES": ["a"]}, "T.RANGES[0]: expected a number, found 'a'"),
        ({"MODES": ["c"]}, "T.MODES[0]: unknown value 'c'; known: a, b"),
        ({"MODES": "a"}, "T.MODES: expected a list of texts, found 'a'"),
        ({"ADAPTER": 3}, "T.ADAPTER: expected a block of keys, found 3"),
        ({"ADAPTER": {"WIDHT": 3}}, "T.ADAPTER: unknown key 'WIDHT'; did you mean 'WIDTH'?"),
        ({"ADAPTER": {"WIDTH": 0}}, "T.ADAPTER.WIDTH: expected a whole number from 1 up, found 0"),
        ({"BLOCKS": [1]}, "T.BLOCKS: expected a block of keys, found [1]"),
    ],
)
def test_a_value_that_does_not_fit_is_named(block: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_options(Example, block, "T")
    assert str(caught.value) == message


def test_an_instance_gives_the_defaults() -> None:
    options = read_options(Example(count=9, name="preset"), {"NAME": "mine"}, "T")
    assert (options.count, options.name, options.share) == (9, "mine", 0.5)


def test_keys_that_the_caller_reads_are_accepted_and_suggested() -> None:
    assert read_options(Adapter, {"PRESET": 1}, "T", also_known=["PRESET"]) == Adapter()
    with pytest.raises(ConfigError, match="'PRESETS'; did you mean 'PRESET'"):
        read_options(Adapter, {"PRESETS": 1}, "T", also_known=["PRESET"])


def test_a_list_of_defaults_is_not_shared() -> None:
    Example().ranges.append(2.0)
    assert Example().ranges == [0.0, 1.0]


def test_the_table_tells_what_each_option_accepts() -> None:
    accepted = {row.key: row.accepts for row in option_table(Example())}
    assert accepted == {
        "COUNT": "a whole number above 0",
        "SHARE": "a number from 0 to 1",
        "PART": "a number above 0 and up to 1",
        "ANY_NUMBER": "a number",
        "SMALL": "a number up to 2",
        "SHOWN": "true or false",
        "NAME": "text",
        "MODE": "`none`, `max`, `mean`",
        "LIMIT": "a whole number from 0 up",
        "SEEN": "true or false",
        "WIDTHS": "a list of whole numbers",
        "RANGES": "a list of numbers",
        "MODES": "a list of: `a`, `b`",
        "ADAPTER": "a block of keys",
        "BLOCKS": "a block of keys",
        "FREE": "any value",
    }
    first = option_table(Example(count=9))[0]
    assert (first.default, first.help) == (9, "how many")


def test_the_schema_of_distill_is_its_options() -> None:
    keys = {row.key for row in option_table(DistillOptions())}
    assert keys == set(DISTILL.keys) == {"TEACHER", "TERMS", "INIT_STUDENT"}
    teacher = DISTILL.keys["TEACHER"]
    assert isinstance(teacher, Block)
    own_keys = {"CFG_FILE", "MODEL", "CKPT", "MODE", "REUSE", "PRECISION"}
    cache_keys = {"CACHE", "CACHE_DIR", "CACHE_THRESH"}
    assert set(teacher.keys) == own_keys | cache_keys
    assert teacher.keys["MODEL"] is MODEL
