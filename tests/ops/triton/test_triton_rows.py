"""Selecting and adding rows by Triton against the plain versions."""

from __future__ import annotations

import pytest
import torch
from triton_inputs import features

from pcdet_distill.ops import dispatch
from pcdet_distill.ops.rows import (
    ADD_ROWS,
    MOVE_ROWS,
    SUM_ROWS,
    TAKE_ROWS,
    add_rows,
    add_rows_plain,
    move_rows,
    sum_rows,
    sum_rows_plain,
    take_rows,
)

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
SHAPES = [(1, 1), (700, 3), (40, 130), (0, 4), (5, 0)]


def some_rows(count: int, total: int, device: torch.device) -> torch.Tensor:
    """Rows (count,), many of them several times; a view that is not contiguous."""
    return ((torch.arange(3 * count, device=device) * 7 // 2) % total)[::3]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("count", "channels"), SHAPES)
def test_taken_rows(count: int, channels: int, dtype: torch.dtype, device: torch.device) -> None:
    source = features(1, 13, channels, dtype, device)
    rows = some_rows(count, 13, device)
    assert torch.equal(TAKE_ROWS.triton_form()(source, rows), source[rows])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("count", "channels"), SHAPES)
def test_added_rows(count: int, channels: int, dtype: torch.dtype, device: torch.device) -> None:
    """The order of a sum is free, so its last bits are; halves are added up in float32."""
    source = features(2, count, channels, dtype, device)
    rows = some_rows(count, 13, device)
    found = ADD_ROWS.triton_form()(source, rows, 13)
    exact = add_rows_plain(source.double(), rows, 13)
    assert found.dtype == dtype
    torch.testing.assert_close(found, exact.to(dtype), rtol=2e-5, atol=2e-5)


def test_the_gradient_of_taken_rows(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the public function, by Triton there and back."""
    monkeypatch.setenv(dispatch.VARIABLE, "triton")
    rows = some_rows(60, 13, device).view(20, 3)
    source = features(3, 13, 5, torch.float64, device).requires_grad_()
    torch.autograd.gradcheck(lambda values: take_rows(values, rows), source, nondet_tol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("count", "channels"), SHAPES)
def test_moved_rows(count: int, channels: int, dtype: torch.dtype, device: torch.device) -> None:
    """From many rows to many places, in one step as in two."""
    source = features(4, 11, channels, dtype, device)
    sources, targets = some_rows(count, 11, device), some_rows(count, 7, device).flip(0)
    found = MOVE_ROWS.triton_form()(source, sources, targets, 7)
    exact = add_rows_plain(source.double()[sources], targets, 7)
    assert found.dtype == dtype
    torch.testing.assert_close(found, exact.to(dtype), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("kernels", ["triton", "plain", "auto"])
def test_the_gradient_of_moved_rows(
    kernels: str, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(dispatch.VARIABLE, kernels)
    sources, targets = some_rows(60, 13, device), some_rows(60, 9, device).flip(0)
    source = features(5, 13, 5, torch.float64, device).requires_grad_()
    torch.autograd.gradcheck(
        lambda values: move_rows(values, sources, targets, 9), source, nondet_tol=1e-9
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("count", "channels"), SHAPES)
@pytest.mark.parametrize("neighbours", [1, 5])
def test_summed_rows(
    count: int, channels: int, neighbours: int, dtype: torch.dtype, device: torch.device
) -> None:
    source = features(6, 13, channels, dtype, device)
    rows = some_rows(count * neighbours, 13, device).view(count, neighbours)
    found = SUM_ROWS.triton_form()(source, rows)
    exact = sum_rows_plain(source.double(), rows)
    assert found.dtype == dtype
    torch.testing.assert_close(found, exact.to(dtype), rtol=2e-5, atol=2e-5)


def test_the_gradient_of_summed_rows(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dispatch.VARIABLE, "triton")
    rows = some_rows(60, 13, device).view(12, 5)
    source = features(7, 13, 3, torch.float64, device).requires_grad_()
    torch.autograd.gradcheck(lambda values: sum_rows(values, rows), source, nondet_tol=1e-9)


def test_a_fixed_order_is_left_to_pytorch(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(dispatch.VARIABLE, "triton")
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    monkeypatch.setattr(ADD_ROWS, "triton", "no_such_file:function")
    source = torch.ones(4, 2, device=device)
    rows = torch.tensor([0, 2, 2, 2], device=device)
    assert add_rows(source, rows, 3).tolist() == [[1, 1], [0, 0], [3, 3]]
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: False)
    with pytest.raises(ImportError):
        add_rows(source, rows, 3)


def test_more_numbers_than_32_bits_count(device: torch.device) -> None:
    """2^31 halves and some; the pages that nobody writes to take no memory on a CPU."""
    total = 2**26 + 3
    source = torch.empty(total, 32, dtype=torch.float16, device=device)
    source[-1] = 7
    source[3] = 5
    rows = torch.tensor([total - 1, 3], device=device)
    taken = TAKE_ROWS.triton_form()(source, rows)
    assert taken[:, 31].tolist() == [7, 5]
