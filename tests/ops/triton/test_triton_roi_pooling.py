"""RoI-aware pooling by Triton against its plain version."""

from __future__ import annotations

import pytest
import torch
from triton_inputs import features, places

from pcdet_distill.ops import dispatch
from pcdet_distill.ops.roi_pooling import CELL_ARGMAX, cell_argmax_plain, roiaware_pool3d


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize(("members", "channels"), [(1, 1), (150, 3), (77, 70)])
@pytest.mark.parametrize("ties", [False, True])
def test_largest_of_each_cell(
    members: int, channels: int, dtype: torch.dtype, ties: bool, device: torch.device
) -> None:
    """Cells of many members and of none; equal features on request."""
    values = features(1, 40, channels, dtype, device)
    if ties:
        values = values.round()
    steps = torch.arange(members, device=device)
    cell = torch.sort((steps * steps) % 29).values
    point = (steps * 7) % 40
    found = CELL_ARGMAX.triton_form()(values, cell, point, 35)
    assert torch.equal(found, cell_argmax_plain(values, cell, point, 35))


@pytest.mark.parametrize("method", ["max", "avg"])
def test_gradients_through_the_public_function(
    method: str, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = places(2, 60, device, on_grid=False)
    rois = torch.tensor([[0.0, 0, 0, 6, 5, 8, 0.4], [90, 0, 0, 1, 1, 1, 0]], device=device)
    values = features(3, 60, 3, torch.float32, device)
    results = {}
    for kernels in ("triton", "plain"):
        monkeypatch.setenv(dispatch.VARIABLE, kernels)
        leaf = values.clone().requires_grad_()
        pooled = roiaware_pool3d(rois, points, leaf, (2, 3, 2), 9, method)
        pooled.square().sum().backward()
        results[kernels] = (pooled.detach(), leaf.grad)
    assert results["plain"][0].any()
    torch.testing.assert_close(results["triton"], results["plain"])
