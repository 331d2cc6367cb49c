"""DensifyLoss: numbers by hand, values and gradients against numpy."""

from __future__ import annotations

import numpy as np
import numpy_methods as plain
import pytest
import torch
from made_nodes import identity, tap
from test_numpy_methods import MAP_S, MAP_T, agrees, built, weights_of

from pcdet_distill.distill.losses.densify import DensifyLoss, DensifyOptions

SPARSE_T = np.maximum(MAP_T, 0)  # behind a ReLU


def densify(student, teacher, matrix, bias, weights):
    occupied = []
    empty = []
    for frame, wanted in zip(student, teacher):
        adapted = plain.adapt_map(frame, matrix, bias)
        for place in np.ndindex(wanted.shape):
            group = empty if wanted[place] == 0 else occupied
            group.append((adapted[place] - wanted[place]) ** 2)
    return weights[0] * np.mean(occupied) + weights[1] * np.mean(empty)


@pytest.mark.parametrize("weights", [(1.0, 2.0), (0.5, 0.0)])
def test_against_numpy(weights):
    loss = built("DensifyLoss", OCCUPIED_WEIGHT=weights[0], EMPTY_WEIGHT=weights[1])
    matrix, bias = weights_of(loss.adapter)
    assert 0.2 < np.mean(SPARSE_T == 0) < 0.8
    agrees(
        loss,
        lambda leaf: (leaf, torch.tensor(SPARSE_T)),
        lambda s: densify(s, SPARSE_T, matrix[:, :, 0, 0], bias, weights),
        MAP_S,
    )


def loss_of(student, teacher, **options):
    loss = DensifyLoss(tap(1), tap(1), DensifyOptions(**options))
    identity(loss.adapter)
    value = loss(torch.tensor([[[student]]]), torch.tensor([[[teacher]]]), {})
    return value.item(), loss.logs["occupied"].item()


def test_one_occupied_cell_counts_as_much_as_three_empty_ones():
    # Occupied: (1 - 3)^2 = 4. Empty: the mean of 1, 0 and 4, twice.
    value, occupied = loss_of([1.0, 1.0, 0.0, 2.0], [3.0, 0.0, 0.0, 0.0])
    assert value == pytest.approx(4 + 2 * 5 / 3)
    assert occupied == 0.25


@pytest.mark.parametrize("teacher, expected", [([0.0, 0.0], 2 * 2.5), ([3.0, 4.0], 4.0)])
def test_a_map_without_one_of_the_groups(teacher, expected):
    assert loss_of([1.0, 2.0], teacher)[0] == pytest.approx(expected)
