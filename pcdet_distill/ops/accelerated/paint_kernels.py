"""Numba kernel that paints rows of one grid, moved with a scene, onto another grid.

``distill/cache/paint.py`` holds the formula and the plain version, which runs on CUDA. On a CPU a
training step paints a few thousand rows. In torch that takes some fifty small operations, which
cost more than the arithmetic.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np


class PaintRows(NamedTuple):
    """R rows; see ``MovedRows`` of ``distill/cache/paint.py``."""

    frame_index: np.ndarray
    places: np.ndarray
    axes: np.ndarray
    kinds: np.ndarray
    turns: np.ndarray
    headings: np.ndarray
    scores: np.ndarray
    is_pasted: np.ndarray


class PaintGrids(NamedTuple):
    """The grid that is painted on, and what is needed of the rows' own.

    Attributes:
        origin, pitch: (2,) float64 metres, of the grid that is painted on.
        table: (kinds, lines, columns) int64 number of the position there; -1 for none.
        headings: (kinds,) float32 radians of the anchors; NaN for cells.
        background: (kinds, classes) float32 scores.
        kind_of: (positions,) int64.
        targets: (rows' kinds, M) int64 the kinds that a row paints; -1 for none.
        row_pitch: (2,) float64 metres, of the rows' own grid.
    """

    origin: np.ndarray
    pitch: np.ndarray
    table: np.ndarray
    headings: np.ndarray
    background: np.ndarray
    kind_of: np.ndarray
    targets: np.ndarray
    row_pitch: np.ndarray


class PaintLimits(NamedTuple):
    """Numbers of the formula."""

    least_weight: float
    whole_share_rad: float
    no_share_rad: float


class Contributions(NamedTuple):
    """What rows give to positions, E entries in the order of target, row and cell."""

    keys: np.ndarray
    rows: np.ndarray
    weights: np.ndarray


def paint(
    rows: PaintRows, grids: PaintGrids, limits: PaintLimits, frames: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slots (P,) ascending, scores (P, classes) and the row (P,) whose box each slot gets."""
    count = _contributions(rows, grids, limits, _no_contributions())
    found = Contributions(
        np.empty(count, np.int64), np.empty(count, np.int64), np.empty(count, np.float32)
    )
    _contributions(rows, grids, limits, found)
    keys = np.unique(found.keys)
    slots = frames * len(grids.kind_of)
    group_of_key = np.empty(2 * slots, np.int32)  # filled at ``keys`` only
    group_of_key[keys] = np.arange(len(keys), dtype=np.int32)
    scores, best = _interpolate(rows, grids, found, keys, group_of_key)
    return _merge(keys, scores, best)


def _no_contributions() -> Contributions:
    """Room for none: then they are counted only."""
    return Contributions(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))


@numba.njit(cache=True)
def _contributions(
    rows: PaintRows, grids: PaintGrids, limits: PaintLimits, found: Contributions
) -> int:
    """Fill ``found`` if it has room; return the number of contributions."""
    positions = len(grids.kind_of)
    _, lines, columns = grids.table.shape
    count = 0
    for target in range(grids.targets.shape[1]):
        for row in range(len(rows.places)):
            kind = grids.targets[rows.kinds[row], target]
            if kind < 0:
                continue
            share = _share(rows, grids, limits, row, kind)
            if share <= limits.least_weight:
                continue
            first_x, last_x, first_y, last_y = _cells_around(rows, grids, row)
            for x in range(max(first_x, 0), min(last_x, columns - 1) + 1):
                for y in range(max(first_y, 0), min(last_y, lines - 1) + 1):
                    weight = _bilinear(rows, grids, row, x, y) * share
                    position = grids.table[kind, y, x]
                    if weight <= limits.least_weight or position < 0:
                        continue
                    if len(found.keys):
                        slot = rows.frame_index[row] * positions + position
                        found.keys[count] = 2 * slot + rows.is_pasted[row]
                        found.rows[count] = row
                        found.weights[count] = weight
                    count += 1
    return count


@numba.njit(cache=True)
def _share(rows: PaintRows, grids: PaintGrids, limits: PaintLimits, row: int, kind: int) -> float:
    """How much of a row belongs to anchors of ``kind``, by the angle to its box."""
    anchor_heading = grids.headings[kind]
    turn = 0.0
    if not math.isnan(anchor_heading):
        difference = rows.headings[row] - anchor_heading
        difference -= math.floor(difference / math.pi + 0.5) * math.pi
        turn = abs(difference)
    change = abs(turn - rows.turns[row])
    share = (limits.no_share_rad - change) / (limits.no_share_rad - limits.whole_share_rad)
    return min(max(share, 0.0), 1.0)


@numba.njit(cache=True)
def _cells_around(rows: PaintRows, grids: PaintGrids, row: int) -> tuple[int, int, int, int]:
    """First and last column, first and last line of the cells that a row may reach."""
    cosine, sine = abs(rows.axes[row, 0]), abs(rows.axes[row, 1])
    # Half the extent of the turned square of two pitches, along x and along y.
    reach_x = cosine * grids.row_pitch[0] + sine * grids.row_pitch[1]
    reach_y = sine * grids.row_pitch[0] + cosine * grids.row_pitch[1]
    x = rows.places[row, 0] - grids.origin[0]
    y = rows.places[row, 1] - grids.origin[1]
    return (
        math.ceil((x - reach_x) / grids.pitch[0]),
        math.floor((x + reach_x) / grids.pitch[0]),
        math.ceil((y - reach_y) / grids.pitch[1]),
        math.floor((y + reach_y) / grids.pitch[1]),
    )


@numba.njit(cache=True)
def _bilinear(rows: PaintRows, grids: PaintGrids, row: int, x: int, y: int) -> float:
    """Weight of a row at a cell: bilinear on the row's own grid, as it lies in the scene."""
    axis_x, axis_y = rows.axes[row, 0], rows.axes[row, 1]
    squared = axis_x * axis_x + axis_y * axis_y
    offset_x = grids.origin[0] + x * grids.pitch[0] - rows.places[row, 0]
    offset_y = grids.origin[1] + y * grids.pitch[1] - rows.places[row, 1]
    along = abs(offset_x * axis_x + offset_y * axis_y) / squared / grids.row_pitch[0]
    across = abs(offset_y * axis_x - offset_x * axis_y) / squared / grids.row_pitch[1]
    return max(1.0 - along, 0.0) * max(1.0 - across, 0.0)


@numba.njit(cache=True)
def _interpolate(
    rows: PaintRows,
    grids: PaintGrids,
    found: Contributions,
    keys: np.ndarray,
    group_of_key: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Scores (G, classes) of every key, and the row (G,) with the largest weight times score."""
    classes = rows.scores.shape[1]
    total = np.zeros(len(keys), np.float32)
    scores = np.zeros((len(keys), classes), np.float32)
    best = np.zeros(len(keys), np.int64)
    strongest = np.full(len(keys), -1.0, np.float32)
    for entry in range(len(found.keys)):
        group = group_of_key[found.keys[entry]]
        row = found.rows[entry]
        weight = found.weights[entry]
        total[group] += weight
        largest = np.float32(0)
        for column in range(classes):
            scores[group, column] += weight * rows.scores[row, column]
            largest = max(largest, rows.scores[row, column])
        if weight * largest >= strongest[group]:
            strongest[group] = weight * largest
            best[group] = row
    positions = len(grids.kind_of)
    for group in range(len(keys)):
        kind = grids.kind_of[(keys[group] // 2) % positions]
        missing = max(np.float32(1) - total[group], np.float32(0))
        for column in range(classes):
            whole = scores[group, column] + missing * grids.background[kind, column]
            scores[group, column] = whole / max(total[group], np.float32(1))
    return scores, best


@numba.njit(cache=True)
def _merge(
    keys: np.ndarray, scores: np.ndarray, best: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Join the keys of the scene and of a pasted object at one slot, which follow one another.

    The larger score of each class counts, and the row of the surer of the two.
    """
    slots = np.empty(len(keys), np.int64)
    count = 0
    for group in range(len(keys)):
        slot = keys[group] // 2
        if count and slots[count - 1] == slot:
            if scores[group].max() >= scores[count - 1].max():
                best[count - 1] = best[group]
            scores[count - 1] = np.maximum(scores[count - 1], scores[group])
        else:
            slots[count] = slot
            scores[count] = scores[group]
            best[count] = best[group]
            count += 1
    return slots[:count], scores[:count], best[:count]
