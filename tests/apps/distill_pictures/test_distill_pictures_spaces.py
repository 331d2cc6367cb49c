"""Components, linear maps and distances against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made_nodes import map_nodes

from pcdet_distill.apps.distill_pictures.features import constant_share, regions_of
from pcdet_distill.apps.distill_pictures.spaces import (
    ColourBasis,
    LinearMap,
    Moments,
    Standardiser,
    balanced,
    cosine,
    distance,
    on_objects,
)

GENERATOR = np.random.RandomState(0)
MIX = GENERATOR.randn(6, 6)
ROWS = torch.from_numpy(GENERATOR.randn(50, 6) @ MIX + 3)
WEIGHTS = torch.from_numpy(GENERATOR.rand(50))


def weighted_covariance(rows, weights):
    mean = np.average(rows, axis=0, weights=weights)
    return mean, np.cov(rows.T, aweights=weights, bias=True)


def test_moments_of_parts_add_up():
    whole = Moments.of(ROWS, WEIGHTS)
    parts = Moments.of(ROWS[:20], WEIGHTS[:20]) + Moments.of(ROWS[20:], WEIGHTS[20:])
    mean, covariance = weighted_covariance(ROWS.numpy(), WEIGHTS.numpy())
    for moments in (whole, parts):
        np.testing.assert_allclose(moments.mean().numpy(), mean)
        np.testing.assert_allclose(moments.covariance().numpy(), covariance, rtol=1e-9)
    some = whole.channels_from(2)
    np.testing.assert_allclose(some.covariance().numpy(), covariance[2:, 2:], rtol=1e-9)
    correlation = covariance / np.sqrt(np.outer(covariance.diagonal(), covariance.diagonal()))
    np.testing.assert_allclose(whole.standardised().covariance().numpy(), correlation, atol=1e-6)


def test_directions_are_orthonormal_and_those_of_largest_variance():
    basis = ColourBasis.of(Moments.of(ROWS, WEIGHTS))
    gram = basis.directions @ basis.directions.t()
    torch.testing.assert_close(gram, torch.eye(3), atol=1e-5, rtol=0)
    _, covariance = weighted_covariance(ROWS.numpy(), WEIGHTS.numpy())
    values = np.linalg.eigvalsh(covariance)[::-1]
    np.testing.assert_allclose(basis.spreads.numpy() ** 2, values[:3], rtol=1e-4)
    assert basis.explained == pytest.approx(values[:3].sum() / values.sum(), rel=1e-6)
    assert basis.variance == pytest.approx(covariance.diagonal().mean())
    along = basis.components(ROWS).double().numpy()
    spread = np.sqrt(np.average(along**2, axis=0, weights=WEIGHTS.numpy()))
    np.testing.assert_allclose(spread, basis.spreads.numpy(), rtol=1e-4)
    largest = basis.directions.abs().argmax(dim=1)
    assert bool((basis.directions[torch.arange(3), largest] > 0).all())


def test_colours_are_common_to_both_models():
    """Equal features have equal colours, and the teacher's mean is grey."""
    basis = ColourBasis.of(Moments.of(ROWS, WEIGHTS))
    colours = basis.colours(ROWS)
    assert float(colours.min()) >= 0 and float(colours.max()) <= 1
    torch.testing.assert_close(basis.colours(basis.mean[None]), torch.full((1, 3), 0.5))
    one_spread = basis.mean + basis.spreads[0] * basis.directions[0]
    torch.testing.assert_close(basis.colours(one_spread[None])[0, 0], torch.tensor(0.7))


def test_two_channels_or_none_that_varies():
    basis = ColourBasis.of(Moments.of(ROWS[:, :2], WEIGHTS))
    assert basis.directions[2].tolist() == [0.0, 0.0]
    assert basis.colours(ROWS[:, :2])[:, 2].tolist() == [0.5] * len(ROWS)
    constant = ColourBasis.of(Moments.of(torch.ones(5, 4), torch.ones(5)))
    torch.testing.assert_close(constant.colours(torch.ones(5, 4)), torch.full((5, 3), 0.5))


def test_the_linear_map_is_the_weighted_least_squares_solution():
    target = torch.from_numpy(GENERATOR.randn(50, 4))
    fitted = LinearMap.fit(Moments.of(torch.cat([ROWS, target], dim=1), WEIGHTS), 6)
    root = WEIGHTS.sqrt().numpy()[:, None]
    design = np.concatenate([ROWS.numpy(), np.ones((50, 1))], axis=1)
    solution, *_ = np.linalg.lstsq(design * root, target.numpy() * root, rcond=None)
    np.testing.assert_allclose(fitted(ROWS).numpy(), design @ solution, atol=5e-3)


def test_a_student_that_is_a_turned_teacher_is_mapped_back():
    turned = ROWS @ torch.from_numpy(np.linalg.qr(MIX)[0])
    fitted = LinearMap.fit(Moments.of(torch.cat([turned, ROWS], dim=1), WEIGHTS), 6)
    basis = ColourBasis.of(Moments.of(ROWS, WEIGHTS))
    assert float(distance(fitted(turned), ROWS.float(), basis.variance).max()) < 1e-3


def test_distances_and_cosines_equal_those_of_numpy():
    student = torch.from_numpy(GENERATOR.randn(50, 6))
    mean = ROWS.mean(dim=0)
    difference = student.numpy() - ROWS.numpy()
    expected = (difference**2).mean(axis=1) / 2.5
    np.testing.assert_allclose(distance(student, ROWS, 2.5).numpy(), expected)
    a, b = student.numpy() - mean.numpy(), ROWS.numpy() - mean.numpy()
    cosines = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(cosine(student, ROWS, mean).numpy(), cosines)


def test_a_student_that_predicts_the_mean_has_a_distance_of_one():
    weights = torch.ones(50, dtype=torch.float64)
    basis = ColourBasis.of(Moments.of(ROWS, weights))
    nothing = basis.mean.expand(50, 6)
    assert float(distance(nothing, ROWS.float(), basis.variance).mean()) == pytest.approx(1, 1e-5)


def test_a_constant_channel_is_standardised_to_zero():
    rows = torch.stack([torch.arange(4.0), torch.full((4,), 7.0)], dim=1)
    standardise = Standardiser.of(Moments.of(rows, torch.ones(4)))
    found = standardise(rows)
    assert found[:, 1].tolist() == [0.0] * 4
    assert float(found[:, 0].std(unbiased=False)) == pytest.approx(1.0)


def test_nodes_on_objects_and_their_weights():
    nodes = map_nodes(torch.zeros(1, 2, 8, 8))
    turned = torch.tensor([[4.0, 4.0, 0.0, 3.8, 1.0, 2.0, np.pi / 2, 1.0]])
    found = on_objects(nodes, turned).view(8, 8)  # rows: y
    # Half of the width and half a metre: 1 m to each side; half of the length: 2.4 m.
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[2:6, 3:5] = True  # centres at 2.5 ... 5.5 along y, 3.5 and 4.5 along x
    assert torch.equal(found, expected)
    assert not bool(on_objects(nodes, turned[:0]).any())
    weights = balanced(found.flatten())
    assert float(weights[found.flatten()].sum()) == pytest.approx(0.5)
    assert float(weights.sum()) == pytest.approx(1.0)
    assert balanced(torch.zeros(4, dtype=torch.bool)).tolist() == [0.25] * 4


def test_regions_divide_the_cells():
    nodes = map_nodes(torch.zeros(1, 2, 4, 4))
    points = torch.tensor([[0.0, 0.5, 0.5, 0.0], [0.0, 3.5, 3.5, 0.0]])
    boxes = torch.tensor([[[0.5, 0.5, 0.0, 0.4, 0.4, 1.0, 0.0, 1.0], [0.0] * 8]])
    weights = torch.zeros(16)
    weights[5] = 2.0
    regions = regions_of(nodes, {"points": points, "gt_boxes": boxes}, weights)
    counts = {name: int(mask.sum()) for name, mask in regions.items()}
    assert counts == {
        "nodes that the loss compares": 1,
        "on labelled objects": 1,
        "other cells with points": 1,
        "cells without points": 14,
        "all nodes": 16,
    }


def test_the_share_of_constant_channels():
    """Only nodes with weight count."""
    features = torch.tensor([[0.0, 1.0], [0.0, 2.0], [5.0, 3.0]])
    assert constant_share(features, torch.tensor([1.0, 1.0, 0.0])) == 0.5
    assert constant_share(features, torch.ones(3)) == 0.0
    assert constant_share(features[:, :1] * 0, torch.ones(3)) == 1.0
