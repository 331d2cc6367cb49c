"""The maximum over each run of rows: values, plain version, gradient of equal rows."""

from __future__ import annotations

import pytest
import torch

from pcdet_distill.ops.segments import segment_argmax, segment_argmax_plain, segment_max


def test_values_and_gradient_by_hand() -> None:
    rows = torch.tensor([[1.0, 5], [3, 5], [3, 2], [-7, -8]], requires_grad=True)
    largest = segment_max(rows, torch.tensor([3, 1]))
    assert largest.tolist() == [[3, 5], [-7, -8]]
    (largest * torch.tensor([[-2.0, -3], [4, 5]])).sum().backward()
    assert rows.grad.tolist() == [[0, -3], [-2, 0], [0, 0], [4, 5]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_the_plain_version_and_each_run_alone(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 9, (40,), generator=generator)
    rows = torch.randint(-3, 4, (int(lengths.sum()), 5), generator=generator).to(dtype)
    at = segment_argmax(rows, lengths)
    assert torch.equal(at, segment_argmax_plain(rows, lengths))
    parts = rows.split(lengths.tolist())
    assert torch.equal(
        segment_max(rows, lengths), torch.stack([part.amax(dim=0) for part in parts])
    )
    assert torch.equal(
        at - (lengths.cumsum(0) - lengths)[:, None],
        torch.stack([part.argmax(dim=0) for part in parts]),
    )


def test_gradcheck() -> None:
    rows = torch.randn(9, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: segment_max(x, torch.tensor([4, 1, 4])), rows)


def test_no_runs() -> None:
    assert segment_max(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)).shape == (0, 3)
    assert segment_argmax_plain(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)).shape == (
        0,
        3,
    )
