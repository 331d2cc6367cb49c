"""What several kernels share."""

import triton
import triton.language as tl


@triton.jit
def squared_distance(ax, ay, az, bx, by, bz):
    """Squared distances of places that broadcast, added in the order of the reference."""
    dx = ax - bx
    dy = ay - by
    dz = az - bz
    return dx * dx + dy * dy + dz * dz


@triton.jit
def append_members(is_member, value, count, rows, limit):
    """Write the first members of each list behind those that it has.

    Args:
        is_member: (M, T) bool, which of the values belong to which list.
        value: (M, T) or (1, T) int64, in the order in which they are taken.
        count: (M,) int32 members so far.
        rows: (M,) pointers to the ``limit`` places of each list.
        limit: places of a list.

    Returns:
        the new counts (M,), at most ``limit``.
    """
    place = count[:, None] + tl.cumsum(is_member.to(tl.int32), axis=1) - 1
    fits = is_member & (place < limit)
    values = tl.zeros(is_member.shape, tl.int64) + value
    tl.store(rows[:, None] + place, values, mask=fits)
    return tl.minimum(count + tl.sum(is_member.to(tl.int32), axis=1), limit)


@triton.jit
def keep_three(distance, row, best, second, third, best_row, second_row, third_row):
    """The three nearest of those so far and one more, each with its row; the earlier one wins.

    Returns:
        the three distances, then their rows.
    """
    is_best = distance < best
    is_second = distance < second
    is_third = distance < third
    third = tl.where(is_second, second, tl.where(is_third, distance, third))
    third_row = tl.where(is_second, second_row, tl.where(is_third, row, third_row))
    second = tl.where(is_best, best, tl.where(is_second, distance, second))
    second_row = tl.where(is_best, best_row, tl.where(is_second, row, second_row))
    best = tl.where(is_best, distance, best)
    best_row = tl.where(is_best, row, best_row)
    return best, second, third, best_row, second_row, third_row
