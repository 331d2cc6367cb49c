"""The pairs of rows of a sparse convolution, as lists by offset or as maps from row to row.

Lists suit a CPU, which gathers the rows of one offset, multiplies and adds. Maps suit a GPU, where
a program sums up all offsets of its own output rows, and no two programs write to one place. Each
form gives the other one, so that any operator takes either.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

NO_ROW = -1
MAX_PATTERN_BITS = 52  # whole numbers that a double holds exactly


class OffsetPairs(NamedTuple):
    """The pairs of one kernel offset.

    Attributes:
        number: which offset.
        sources: (P_k,) int64 rows that are read.
        targets: (P_k,) int64 rows that are added to.
    """

    number: int
    sources: Tensor
    targets: Tensor


@dataclasses.dataclass(frozen=True)
class Rulebook:
    """Pairs of rows of a convolution with K kernel offsets.

    At one offset no row occurs twice on either side.

    Attributes:
        in_rows: (P,) int64, grouped by offset.
        out_rows: (P,) int64.
        counts: K numbers of pairs.
        num_in: input rows.
        num_out: output rows.
        identity: the offset at which every row is paired with itself, or None. Its pairs are not
            listed, because one matrix product covers them all.
    """

    in_rows: Tensor
    out_rows: Tensor
    counts: tuple[int, ...]
    num_in: int
    num_out: int
    identity: int | None = None

    @cached_property
    def pairs(self) -> list[OffsetPairs]:
        """The pairs of every offset that has some."""
        in_parts = self.in_rows.split(self.counts)
        out_parts = self.out_rows.split(self.counts)
        pairs = []
        for number, (in_rows, out_rows) in enumerate(zip(in_parts, out_parts)):
            if len(in_rows):
                pairs.append(OffsetPairs(number, in_rows, out_rows))
        return pairs

    @cached_property
    def reversed_pairs(self) -> list[OffsetPairs]:
        """``pairs``, from output rows to input rows."""
        return [OffsetPairs(number, out_rows, in_rows) for number, in_rows, out_rows in self.pairs]

    @property
    def listed(self) -> Rulebook:
        """This one; see ``MappedRulebook.listed``."""
        return self

    @cached_property
    def mapped(self) -> MappedRulebook:
        """The same pairs as maps."""
        volume = len(self.counts)
        sources = self.in_rows.new_full((volume, self.num_out), NO_ROW, dtype=torch.int32)
        targets = self.in_rows.new_full((volume, self.num_in), NO_ROW, dtype=torch.int32)
        for number, in_rows, out_rows in self.pairs:
            sources[number, out_rows] = in_rows.int()
            targets[number, in_rows] = out_rows.int()
        if self.identity is not None:
            rows = torch.arange(self.num_in, dtype=torch.int32, device=sources.device)
            sources[self.identity] = rows
            targets[self.identity] = rows
        return MappedRulebook(sources, targets, self.identity)


@dataclasses.dataclass(frozen=True)
class MappedRulebook:
    """Pairs of rows of a convolution with K kernel offsets, without a list of them.

    No step on the way to a convolution needs the number of pairs. So the CPU need not wait for it.

    Attributes:
        sources: (K, num_out) int32, the input row that each output row reads at each offset, or
            ``NO_ROW``. The pairs of ``identity`` are included.
        targets: (K, num_in) int32, the output row to which each input row adds, or ``NO_ROW``.
        identity: as in ``Rulebook``.
    """

    sources: Tensor
    targets: Tensor
    identity: int | None = None

    @property
    def num_in(self) -> int:
        """Input rows."""
        return self.targets.shape[1]

    @property
    def num_out(self) -> int:
        """Output rows."""
        return self.sources.shape[1]

    @property
    def mapped(self) -> MappedRulebook:
        """This one; see ``Rulebook.mapped``."""
        return self

    @cached_property
    def listed(self) -> Rulebook:
        """The same pairs as lists, in the order of ``rulebook``'s plain versions."""
        by_output = self.identity is not None
        rows = self.sources if by_output else self.targets
        exists = rows >= 0
        if by_output:
            exists[self.identity] = False
        column = torch.nonzero(exists)[:, 1]
        row = rows[exists].long()
        return Rulebook(
            in_rows=row if by_output else column,
            out_rows=column if by_output else row,
            counts=tuple(exists.sum(dim=1).tolist()),
            num_in=self.num_in,
            num_out=self.num_out,
            identity=self.identity,
        )

    @property
    def counts(self) -> tuple[int, ...]:
        """K numbers of pairs, without those of ``identity``; waits for the device."""
        return self.listed.counts

    @cached_property
    def output_order(self) -> Tensor:
        """Output rows (num_out,) int32, those with the same offsets together."""
        return rows_by_pattern(self.sources)

    @cached_property
    def input_order(self) -> Tensor:
        """Input rows (num_in,) int32, those with the same offsets together."""
        return rows_by_pattern(self.targets)


AnyRulebook = Rulebook | MappedRulebook


def rows_by_pattern(rows: Tensor) -> Tensor:
    """The columns of a map (K, N), sorted by the set of offsets at which they have a row.

    A program works on neighbouring columns and skips an offset that none of them has. Of a LiDAR
    scan a cell has about a third of its neighbours, and others than the next cell in the list.

    Returns:
        (N,) int32.
    """
    volume = len(rows)
    offsets = torch.arange(volume, device=rows.device)
    # Large kernels share bits. That groups the columns less well and changes no result.
    bits = torch.div(offsets * min(volume, MAX_PATTERN_BITS), volume, rounding_mode="floor")
    patterns = torch.mv((rows >= 0).double().t(), torch.exp2(bits.double()))
    return torch.argsort(patterns, stable=True).int()
