"""The parts of a schema: a free value, a block of known keys, a list of blocks."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from .options import option_keys

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class Free:
    """Any value: a number, a list, or a block whose keys are checked by its reader."""


@dataclass(frozen=True)
class Block:
    """A mapping with known keys.

    Attributes:
        keys: key -> what may stand under it. A key may be a pattern with ``*``.
        names: the classes of OpenPCDet that are built from this block; empty when there is none.
        name_key: the key that names the class.
    """

    keys: Mapping[str, Node]
    names: tuple[str, ...] = ()
    name_key: str = "NAME"

    def find(self, key: str) -> Node | None:
        """What may stand under ``key``; None when the key is not known here."""
        if key in self.keys:
            return self.keys[key]
        for pattern, node in self.keys.items():
            if "*" in pattern and fnmatch.fnmatchcase(key, pattern):
                return node
        return None


@dataclass(frozen=True)
class ListOf:
    """A list of blocks. ``or_block`` may stand in its place: DATA_AUGMENTOR is one or the other."""

    item: Block
    or_block: Block | None = None


Node: TypeAlias = Free | Block | ListOf
FREE = Free()


def keys(names: str, **nested: Node) -> dict[str, Node]:
    """``{"A": FREE, "B": FREE, "C": block}`` of ``keys("A B", C=block)``."""
    return {**dict.fromkeys(names.split(), FREE), **nested}


def block(names: str, **nested: Node) -> Block:
    """A block with the keys of ``keys(names, **nested)``."""
    return Block(keys(names, **nested))


def options_block(options: type[DataclassInstance], **nested: Node) -> Block:
    """A block with the keys of a dataclass of options."""
    return block(" ".join(option_keys(options)), **nested)


def slot(known_classes: str, names: str, **nested: Node) -> Block:
    """A block from which a class is built; OpenPCDet's are ``known_classes``, chosen by NAME."""
    return Block(keys("NAME " + names, **nested), tuple(known_classes.split()))
