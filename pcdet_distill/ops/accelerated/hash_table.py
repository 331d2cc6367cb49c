"""A hash table from cells to rows for Numba kernels: open addressing with linear probing."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

# 2**64 / golden ratio. Neighbouring cells have neighbouring keys; the product with this number
# spreads them over the table (Fibonacci hashing, Knuth, The Art of Computer Programming 3, 6.4).
HASH_FACTOR = np.uint64(0x9E3779B97F4A7C15)
FREE = -1


class HashTable(NamedTuple):
    """Row ``rows[slot]`` has the key ``keys[slot]``, which is ``FREE`` where no row has the slot.

    Attributes:
        keys: (2**bits,) int64.
        rows: (2**bits,) int32.
        shift: 64 - bits; a hash of 64 bits shifted down by so many is a slot.
    """

    keys: np.ndarray
    rows: np.ndarray
    shift: np.uint64


@numba.njit(cache=True)
def empty_table(num_keys: int) -> HashTable:
    """A table that ``num_keys`` fill by half at most, which keeps the runs of taken slots short."""
    bits = 5
    while (1 << bits) < 2 * num_keys:
        bits += 1
    keys = np.full(1 << bits, FREE, np.int64)
    rows = np.empty(1 << bits, np.int32)
    return HashTable(keys, rows, np.uint64(64 - bits))


@numba.njit(cache=True)
def slot_of(key: int, table: HashTable) -> int:
    """The slot that holds ``key`` (0 or more), or the free one where it belongs."""
    keys = table.keys
    slot = np.int64((np.uint64(key) * HASH_FACTOR) >> table.shift)
    while keys[slot] != key and keys[slot] >= 0:
        slot = (slot + 1) & (len(keys) - 1)
    return slot


@numba.njit(cache=True)
def insert(table: HashTable, slot: int, key: int, row: int) -> None:
    """Give a free slot to ``key`` and its row."""
    table.keys[slot] = key
    table.rows[slot] = row
