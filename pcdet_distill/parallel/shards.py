"""One of several parts of the work, such as the tasks of a SLURM array: ``--shard 2/4``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from .engine import Item


@dataclass(frozen=True)
class Shard:
    """Part ``number`` of ``count``, from 1."""

    number: int
    count: int

    def of(self, items: Sequence[Item]) -> list[Item]:
        """The items of this part: every ``count``-th one. Each item is in exactly one part."""
        return list(items[self.number - 1 :: self.count])

    @property
    def file_name(self) -> str:
        """How files of this part are named."""
        return f"{self.number}-of-{self.count}"

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def all_shards(count: int) -> list[Shard]:
    """Every part."""
    return [Shard(number, count) for number in range(1, count + 1)]


def read_shard(text: str) -> Shard:
    """``2/4`` of a command line."""
    number, _, count = text.partition("/")
    if number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count):
        return Shard(int(number), int(count))
    raise argparse.ArgumentTypeError(f"'{text}': expected I/N with I from 1 to N, such as 2/4")


def add_shard_argument(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--shard``.

    Args:
        what: the parts of the work, such as ``frames``.
    """
    parser.add_argument(
        "--shard",
        type=read_shard,
        default=None,
        metavar="I/N",
        help=f"work on part I of N of the {what}, counted from 1, for a SLURM array",
    )
