"""A hash table on the device, from keys to the first place at which each one occurs.

Open addressing with linear probing, as ``accelerated.hash_table`` on the CPU. All threads insert at
once: a compare-and-swap gives a free slot to one of them, and a minimum keeps the smallest place.
So the table's order may change from run to run, but not the places that it tells.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...occurrences import FirstOccurrences
from . import EXACT

KEYS = 256  # of a program
FREE = -1
MIN_BITS = 5


class DeviceTable(NamedTuple):
    """Distinct keys and where each of them occurs first.

    Attributes:
        keys: (2**bits,) int64, ``FREE`` where a slot has no key.
        places: (2**bits + 1,) int64, the first place of each key. The last one, for values that are
            no keys, is beyond all places.
        bits: of the number of slots.
    """

    keys: Tensor
    places: Tensor
    bits: int


@triton.jit
def first_slot(key, BITS: tl.constexpr):
    """Where the search for a key begins: the upper bits of its product with 2**64 / golden ratio.

    Neighbouring cells have neighbouring keys, and the product spreads them over the table
    (Fibonacci hashing). The number is written as a negative one, which has the same bits.
    """
    spread = key * -7046029254386353131
    return (spread >> (64 - BITS)) & ((1 << BITS) - 1)


@triton.jit
def find_place(keys, places, key, wanted, BITS: tl.constexpr):
    """The first place of each key (T,) int64; -1 where the table has none, or none is wanted."""
    slot = first_slot(key, BITS)
    place = tl.zeros(key.shape, tl.int64) - 1
    searching = wanted
    while tl.max(searching.to(tl.int32), axis=0) > 0:
        other = tl.load(keys + slot, mask=searching, other=-1)
        found = searching & (other == key)
        first = tl.load(places + slot, mask=found, other=0)
        place = tl.where(found, first, place)
        searching = searching & (other != key) & (other >= 0)
        slot = (slot + 1) & ((1 << BITS) - 1)
    return place


@triton.jit
def _insert_kernel(values, keys, places, slots, num_values, BITS: tl.constexpr, KEYS: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * KEYS + tl.arange(0, KEYS)
    key = tl.load(values + place, mask=place < num_values, other=-1)
    has_key = key >= 0
    nowhere = (tl.zeros(key.shape, tl.int64) + 1) << BITS
    # All threads of a program ask as long as one of them searches. Those without a key ask at a
    # slot of their own and for a key that is never there, so that they change and delay nothing.
    slot = first_slot(tl.where(has_key, key, place), BITS)
    searching = has_key
    while tl.max(searching.to(tl.int32), axis=0) > 0:
        free = tl.where(searching, tl.zeros(key.shape, tl.int64) - 1, -2)
        before = tl.atomic_cas(keys + slot, free, key)
        searching = searching & (before != -1) & (before != key)
        slot = tl.where(searching, (slot + 1) & ((1 << BITS) - 1), slot)
    tl.atomic_min(places + slot, place, mask=has_key)
    tl.store(slots + place, tl.where(has_key, slot, nowhere), mask=place < num_values)


def table_of(values: Tensor, most_distinct: int) -> tuple[DeviceTable, Tensor]:
    """The table of keys.

    Args:
        values: (P,) int64, contiguous, at least one; negative ones are no keys.
        most_distinct: an upper bound of how many different keys there are. The table is twice as
            large at least, which keeps the runs of taken slots short.

    Returns:
        the table, and the slot (P,) int64 of each key; ``2**bits`` for values that are no keys.
    """
    bits = max(MIN_BITS, (2 * most_distinct - 1).bit_length())
    keys = values.new_full((1 << bits,), FREE)
    places = values.new_full(((1 << bits) + 1,), len(values))
    slots = torch.empty_like(values)
    _insert_kernel[(triton.cdiv(len(values), KEYS),)](
        values, keys, places, slots, len(values), BITS=bits, KEYS=KEYS, **EXACT
    )
    return DeviceTable(keys, places, bits), slots


def first_occurrences(keys: Tensor, most_distinct: int) -> FirstOccurrences:
    """``occurrences.first_occurrences``: a running sum over first places numbers without a sort."""
    keys = keys.contiguous()
    own_place = torch.arange(len(keys), device=keys.device)
    if len(keys) == 0:
        return FirstOccurrences(own_place == 0, own_place)
    table, slots = table_of(keys, most_distinct)
    first_place = table.places[slots]
    is_first = first_place == own_place
    rank = torch.cumsum(is_first, dim=0) - 1
    # Values that are no keys have a first place beyond the last one.
    return FirstOccurrences(is_first, rank[first_place.clamp(max=len(keys) - 1)])
