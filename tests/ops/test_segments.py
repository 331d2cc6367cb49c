"""The maximum over each run of rows: values, plain version, gradient of equal rows."""

from __future__ import annotations

import pytest
import torch

from pcdet_distill.ops.segments import segment_argmax, segment_argmax_plain, segment_max


def test_values_and_gradient_by_hand() -> None:
    """Runs of three rows and of one. In the first run two rows have a 5: the first gets it all."""
    rows = torch.tensor(
        [
            [1.0, 5.0],
            [3.0, 5.0],
            [3.0, 2.0],
            [-7.0, -8.0],
        ],
        requires_grad=True,
    )
    largest = segment_max(rows, torch.tensor([3, 1]))
    assert largest.tolist() == [[3, 5], [-7, -8]]
    upstream = torch.tensor([[-2.0, -3.0], [4.0, 5.0]])
    largest.backward(upstream)
    assert rows.grad.tolist() == [
        [0, -3],
        [-2, 0],
        [0, 0],
        [4, 5],
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_the_plain_version_and_each_run_alone(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 9, (40,), generator=generator)
    rows = torch.randint(-3, 4, (int(lengths.sum()), 5), generator=generator).to(dtype)
    largest = segment_max(rows, lengths)
    at_row = segment_argmax(rows, lengths)
    assert torch.equal(at_row, segment_argmax_plain(rows, lengths))
    first_row = 0
    for number, run in enumerate(rows.split(lengths.tolist())):
        assert torch.equal(largest[number], run.amax(dim=0))
        assert torch.equal(at_row[number], first_row + run.argmax(dim=0))
        first_row += len(run)


def test_gradcheck() -> None:
    rows = torch.randn(9, 3, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([4, 1, 4])
    assert torch.autograd.gradcheck(lambda x: segment_max(x, lengths), rows)


def test_no_runs() -> None:
    no_rows = torch.zeros(0, 3)
    no_lengths = torch.zeros(0, dtype=torch.int64)
    assert segment_max(no_rows, no_lengths).shape == (0, 3)
    assert segment_argmax_plain(no_rows, no_lengths).shape == (0, 3)
