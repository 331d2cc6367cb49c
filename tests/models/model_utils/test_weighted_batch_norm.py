"""Batch norm over weighted rows: compiled and plain versions equal repeated rows."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from pcdet_distill.models.model_utils.weighted_batch_norm import WeightedBatchNorm1d

ROW_WEIGHTS = torch.tensor([1, 2, 1, 5, 3, 1, 4])


def make_norm_and_rows(dtype: torch.dtype = torch.float64) -> tuple[WeightedBatchNorm1d, Tensor]:
    """A norm with random scale and shift, and a row for each of ROW_WEIGHTS, (7, 3)."""
    torch.manual_seed(0)
    norm = WeightedBatchNorm1d(3).to(dtype)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    rows = torch.randn(7, 3, dtype=dtype) * 2 + 5
    return norm, rows


@pytest.mark.parametrize("method", ["_normalise_compiled", "_normalise_plain"])
def test_a_weight_counts_a_row_several_times(method: str) -> None:
    norm, rows = make_norm_and_rows()
    plain = nn.BatchNorm1d(3).double()
    plain.load_state_dict(norm.state_dict())
    ours = rows.clone().requires_grad_()
    theirs = rows.clone().requires_grad_()

    found = getattr(norm, method)(ours, ROW_WEIGHTS.double())
    repeated = theirs.repeat_interleave(ROW_WEIGHTS, dim=0)
    first_of_each_row = ROW_WEIGHTS.cumsum(0) - ROW_WEIGHTS
    expected = plain(repeated)[first_of_each_row]
    torch.testing.assert_close(found, expected)

    slope = torch.randn(7, 3, dtype=torch.float64)
    found.backward(slope)
    expected.backward(slope)
    torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(norm.weight.grad, plain.weight.grad)
    torch.testing.assert_close(norm.bias.grad, plain.bias.grad)
    torch.testing.assert_close(norm.running_mean, plain.running_mean)
    torch.testing.assert_close(norm.running_var, plain.running_var)


def test_gradients_equal_finite_differences() -> None:
    norm, rows = make_norm_and_rows()
    inputs = (rows.requires_grad_(), norm.weight, norm.bias)

    # The norm uses its own scale and shift; gradcheck changes them in place.
    def normalise(rows: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        return norm(rows, ROW_WEIGHTS)

    assert torch.autograd.gradcheck(normalise, inputs)


def in_double_precision(norm: WeightedBatchNorm1d, rows: Tensor) -> Tensor:
    """What the norm gives with twice the digits; the norm itself stays as it is."""
    return copy.deepcopy(norm).double()(rows.double(), ROW_WEIGHTS)


def test_single_precision_is_enough_for_usual_rows() -> None:
    norm, rows = make_norm_and_rows(torch.float32)
    expected = in_double_precision(norm, rows)
    torch.testing.assert_close(norm(rows, ROW_WEIGHTS), expected.float())


def test_a_large_mean_loses_no_digits() -> None:
    """A column of nearly equal large numbers keeps its variance."""
    norm, rows = make_norm_and_rows(torch.float32)
    shifted = rows + 10000
    expected = in_double_precision(norm, shifted)
    found = norm(shifted, ROW_WEIGHTS)
    torch.testing.assert_close(found.double(), expected, rtol=0.02, atol=0.02)


def test_sums_over_many_rows_are_exact() -> None:
    rows = torch.randn(200_000, 2, generator=torch.Generator().manual_seed(0)) + 3
    norm = WeightedBatchNorm1d(2, momentum=1.0)
    norm(rows, torch.ones(len(rows)))
    mean = rows.double().mean(dim=0)
    variance = rows.double().var(dim=0)
    torch.testing.assert_close(norm.running_mean.double(), mean, rtol=1e-7, atol=0)
    torch.testing.assert_close(norm.running_var.double(), variance, rtol=1e-6, atol=0)


def test_one_row_becomes_the_shift() -> None:
    norm, rows = make_norm_and_rows()
    one_row = rows[:1].requires_grad_()
    found = norm(one_row, torch.tensor([32]))
    torch.testing.assert_close(found, norm.bias.unsqueeze(0))
    found.sum().backward()


def test_no_row_gives_no_row() -> None:
    norm, rows = make_norm_and_rows()
    assert norm(rows[:0]).shape == (0, 3)
