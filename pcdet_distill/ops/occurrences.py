"""Numbers for distinct keys, in the order in which they first occur."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .dispatch import Operator


class FirstOccurrences(NamedTuple):
    """Where each distinct key occurs first, and a number for it.

    Attributes:
        is_first: (P,) bool, the places where a key occurs for the first time. Their keys are the
            distinct ones, in the order of their numbers.
        numbers: (P,) int64, the number of the key of each place; any where there is no key.
    """

    is_first: Tensor
    numbers: Tensor


def first_occurrences(keys: Tensor, most_distinct: int) -> FirstOccurrences:
    """Number distinct keys in the order in which they first occur.

    Args:
        keys: (P,) int64; negative ones are no keys.
        most_distinct: an upper bound of how many different keys there are.
    """
    return FIRST_OCCURRENCES.on(keys.device)(keys, most_distinct)


def first_occurrences_plain(keys: Tensor, most_distinct: int) -> FirstOccurrences:
    """``first_occurrences`` by sorting; it needs no bound.

    ``torch.unique`` numbers by key instead. The first place of each key puts them into order.
    """
    distinct, group = torch.unique(keys, return_inverse=True)
    own_place = torch.arange(len(keys), device=keys.device)
    never = torch.full_like(distinct, len(keys))
    first_place = never.scatter_reduce_(0, group, own_place, "amin")[group]
    is_first = (first_place == own_place) & (keys >= 0)
    rank = torch.cumsum(is_first, dim=0) - 1
    return FirstOccurrences(is_first, rank[first_place])


FIRST_OCCURRENCES = Operator(
    "numbering cells", plain=first_occurrences_plain, triton="hash_table:first_occurrences"
)
