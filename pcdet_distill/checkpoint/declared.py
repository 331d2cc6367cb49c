"""What each key of a checkpoint holds, declared once.

OpenPCDet's keys are epoch, it, model_state, optimizer_state and version; the others are ours. A key
may be missing or hold None. Keys that are not declared here may hold anything that is plain.
The tensors themselves are checked in ``contents``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..structures import (
    Checked,
    Kind,
    ListOf,
    Maybe,
    Misfit,
    NoneOr,
    Number,
    Numbers,
    Structure,
    Text,
    shown,
)

MAX_COUNT = 2**53  # of epochs, iterations and seeds: whole numbers that a float holds exactly
MAX_WORD = 2**32 - 1  # of the state of a Mersenne Twister


@dataclass(frozen=True)
class AnyMapping:
    """A mapping; ``named`` when all its keys are texts, and with these ``entries`` among others."""

    named: bool = True
    entries: Structure | None = None

    @property
    def words(self) -> str:
        """``a mapping with names as keys``."""
        return "a mapping with names as keys" if self.named else "a mapping"

    def misfit(self, value: Any, checked: Checked) -> Misfit | None:
        """Refuses what is no mapping, and other keys."""
        is_mapping = isinstance(value, Mapping)
        if not is_mapping or (self.named and not all(isinstance(key, str) for key in value)):
            return Misfit("", shown(value), self.words)
        return None if self.entries is None else self.entries.misfit(dict(value), checked)


@dataclass(frozen=True)
class TensorOf:
    """A tensor with one axis; of ``size`` numbers where that is fixed."""

    dtype: torch.dtype
    size: int | None = None

    @property
    def words(self) -> str:
        """``a tensor (624,) of int64``."""
        shape = "(N,)" if self.size is None else f"({self.size},)"
        return f"a tensor {shape} of {str(self.dtype).removeprefix('torch.')}"

    def misfit(self, value: Any, checked: Checked) -> Misfit | None:
        """Refuses other types and shapes."""
        fits = isinstance(value, Tensor) and value.dtype == self.dtype and value.dim() == 1
        if fits and self.size in (None, len(value)):
            return None
        is_tensor = isinstance(value, Tensor)
        found = f"a tensor {tuple(value.shape)} of {value.dtype}" if is_tensor else shown(value)
        return Misfit("", found, self.words)


class Row:
    """A list with one entry of each kind, in their order."""

    def __init__(self, *kinds: Kind) -> None:
        self.kinds: Sequence[Kind] = kinds
        self.words = f"a list of {len(kinds)}: {', '.join(kind.words for kind in kinds)}"

    def misfit(self, value: Any, checked: Checked) -> Misfit | None:
        """The first entry that does not fit."""
        if not isinstance(value, (list, tuple)) or len(value) != len(self.kinds):
            return Misfit("", shown(value), self.words)
        for number, (entry, kind) in enumerate(zip(value, self.kinds)):
            misfit = kind.misfit(entry, checked)
            if misfit is not None:
                return misfit.below(f"[{number}]")
        return None


COUNT = Number(least=0, most=MAX_COUNT, whole=True)
POSITIVE = Number(least=1, most=MAX_COUNT, whole=True)
GENERATOR_BYTES = TensorOf(torch.uint8)

# As ``engine.checkpoints.randomness`` stores it: the generators of one process.
RANDOM_STATE = Structure(
    python=Row(COUNT, Numbers(625, least=0, most=MAX_WORD, whole=True), NoneOr(Number())),
    numpy=Row(Text(), TensorOf(torch.int64, 624), COUNT, COUNT, Number()),
    torch=GENERATOR_BYTES,
    cuda=NoneOr(GENERATOR_BYTES),
)

# What a parameter keeps depends on the optimizer, which looks at it when it is given the state.
OPTIMIZER_STATE = AnyMapping(
    entries=Structure(
        state=Maybe(AnyMapping(named=False)),
        param_groups=Maybe(ListOf(Structure(params=Maybe(ListOf(COUNT))))),
    )
)

CHECKPOINT = Structure(
    epoch=Maybe(COUNT),
    it=Maybe(COUNT),
    seed=Maybe(COUNT),
    iterations_per_epoch=Maybe(POSITIVE),
    threads=Maybe(POSITIVE),
    model_state=Maybe(AnyMapping(named=False)),
    optimizer_state=Maybe(OPTIMIZER_STATE),
    scaler_state=Maybe(AnyMapping()),
    distill_state=Maybe(AnyMapping()),
    random_states=Maybe(ListOf(RANDOM_STATE)),
    version=Maybe(Text()),
    checksum=Maybe(Text()),
)
