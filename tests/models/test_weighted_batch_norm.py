"""Batch norm over weighted rows: compiled and plain versions equal repeated rows."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from pcdet_distill.models.model_utils.weighted_batch_norm import WeightedBatchNorm1d


def make(dtype: torch.dtype = torch.float64) -> tuple[WeightedBatchNorm1d, Tensor, Tensor]:
    torch.manual_seed(0)
    norm = WeightedBatchNorm1d(3).to(dtype)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm, torch.randn(7, 3, dtype=dtype) * 2 + 5, torch.tensor([1, 2, 1, 5, 3, 1, 4])


@pytest.mark.parametrize("method", ["_normalise_compiled", "_normalise_plain"])
def test_repeated_rows(method: str) -> None:
    norm, rows, weight = make()
    plain = nn.BatchNorm1d(3).double()
    plain.load_state_dict(norm.state_dict())
    first = torch.nn.functional.pad(weight.cumsum(0), (1, -1))
    ours = rows.clone().requires_grad_()
    theirs = rows.clone().requires_grad_()
    found = getattr(norm, method)(ours, weight.double())
    expected = plain(theirs.repeat_interleave(weight, dim=0))[first]
    torch.testing.assert_close(found, expected)
    slope = torch.randn(7, 3, dtype=torch.float64)
    found.backward(slope)
    expected.backward(slope)
    torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(norm.weight.grad, plain.weight.grad)
    torch.testing.assert_close(norm.bias.grad, plain.bias.grad)
    torch.testing.assert_close(norm.running_mean, plain.running_mean)
    torch.testing.assert_close(norm.running_var, plain.running_var)


def test_gradcheck() -> None:
    norm, rows, weight = make()
    inputs = rows.requires_grad_(), norm.weight, norm.bias
    assert torch.autograd.gradcheck(lambda x, gamma, beta: norm(x, weight), inputs)


def test_a_large_mean_loses_no_digits() -> None:
    """A column of nearly equal large numbers keeps its variance."""
    norm, rows, weight = make(torch.float32)
    shifted = rows + 10000
    exact = copy.deepcopy(norm).double()(shifted.double(), weight)
    torch.testing.assert_close(norm(shifted, weight).double(), exact, rtol=0.02, atol=0.02)
    torch.testing.assert_close(
        norm(rows, weight), copy.deepcopy(norm).double()(rows.double(), weight).float()
    )


def test_many_rows_sum_up_exactly() -> None:
    rows = torch.randn(200_000, 2, generator=torch.Generator().manual_seed(0)) + 3
    norm = WeightedBatchNorm1d(2, momentum=1.0)
    norm(rows, torch.ones(len(rows)))
    torch.testing.assert_close(
        norm.running_mean.double(), rows.double().mean(dim=0), rtol=1e-7, atol=0
    )
    torch.testing.assert_close(
        norm.running_var.double(), rows.double().var(dim=0), rtol=1e-6, atol=0
    )


def test_one_row_and_none() -> None:
    norm, rows, _ = make()
    found = norm(rows[:1].requires_grad_(), torch.tensor([32]))
    torch.testing.assert_close(found, norm.bias.unsqueeze(0))
    found.sum().backward()
    assert norm(rows[:0]).shape == (0, 3)
