"""Reading one yaml file, as it stands: without its base files, and without checking its keys.

A file is bounded before its values are built: its size, its depth, the length of a value, and how
much its aliases (``*name``) repeat. Seven lines of aliases can stand for millions of values.
"""

from __future__ import annotations

import copy
import functools
import re
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError

MAX_BYTES = 2 * 2**20
MAX_DEPTH = 40
MAX_NODES = 100_000  # values, each counted as often as aliases repeat it
MAX_VALUE_LENGTH = 10_000
MAX_WHOLE_NUMBER = 2**63 - 1  # what tensors and arrays can hold
MAX_CACHED_TEXTS = 512
MAX_CACHED_LETTERS = 50_000


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with bounds; it also reads ``1e-3`` as a number, where YAML has text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._open: list[yaml.Node | None] = []  # the nodes around the present one
        self._sizes: dict[yaml.Node, int] = {}  # values in each node that has an anchor
        self._count = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose one value, with those in it."""
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            return self._repeat(event, parent, index)
        if len(self._open) >= MAX_DEPTH:
            self._refuse(f"more than {MAX_DEPTH} blocks within each other", event)
        before = self._count
        self._add(1, event)
        self._open.append(parent)
        node = super().compose_node(parent, index)
        self._open.pop()
        if isinstance(node, yaml.ScalarNode) and len(node.value) > MAX_VALUE_LENGTH:
            self._refuse(f"a value of {len(node.value)} characters", event)
        if node is not None and getattr(event, "anchor", None):
            self._sizes[node] = self._count - before
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node. Python's complaint about a number or date gets its line."""
        try:
            value = super().construct_object(node, deep)
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
            reason = str(error).splitlines()[0]
            raise yaml.constructor.ConstructorError(
                None, None, f"a value that cannot be read ({reason})", node.start_mark
            ) from None
        if isinstance(value, int) and abs(value) > MAX_WHOLE_NUMBER:
            self._refuse(f"a whole number of {value.bit_length()} bits", node)
        return value

    def _repeat(
        self, event: yaml.AliasEvent, parent: yaml.Node | None, index: Any
    ) -> yaml.Node | None:
        """The node that an alias repeats, counted again."""
        node = self.anchors.get(event.anchor)
        if node is not None and node not in self._sizes:
            self._refuse(f"'*{event.anchor}' stands within itself", event)
        self._add(self._sizes[node] if node is not None else 1, event)
        return super().compose_node(parent, index)

    def _add(self, nodes: int, event: yaml.Event) -> None:
        self._count += nodes
        if self._count > MAX_NODES:
            self._refuse(f"more than {MAX_NODES} values", event)

    def _refuse(self, problem: str, event: Any) -> None:
        raise yaml.constructor.ConstructorError(
            None, None, f"{problem}, more than any config has", event.start_mark
        )


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping of keys that a yaml file holds."""
    try:
        content = _parse(_read_text(file))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not a text file, expected yaml") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not valid yaml{_place_and_reason(error)}") from error
    if not isinstance(content, dict):
        found = "nothing" if content is None else "other yaml"
        raise ConfigError(f"{file}: expected a mapping of keys, found {found}")
    return content


def _parse(text: str) -> Any:
    """The content of a yaml text. Short texts are parsed once: many files have the same base."""
    if len(text) > MAX_CACHED_LETTERS:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 (a safe loader)
    return copy.deepcopy(_parse_short(text))


@functools.lru_cache(maxsize=MAX_CACHED_TEXTS)
def _parse_short(text: str) -> Any:
    """The content of a text, which callers must not change."""
    return yaml.load(text, Loader=_Loader)  # noqa: S506 (a safe loader)


def _read_text(file: Path) -> str:
    if not file.is_file():
        raise ConfigError(f"{file}: is no regular file, expected yaml")
    size = file.stat().st_size
    if size > MAX_BYTES:
        raise ConfigError(f"{file}: has {size} bytes, more than the {MAX_BYTES} of any config")
    return file.read_text(encoding="utf-8")


def _place_and_reason(error: yaml.YAMLError) -> str:
    """``" in line 2: expected ',' or ']'"``, as far as the parser gives them."""
    mark = getattr(error, "problem_mark", None)
    line = f" in line {mark.line + 1}" if mark else ""
    reason = getattr(error, "problem", None) or "invalid character"
    return f"{line}: {reason}"
