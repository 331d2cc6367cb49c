"""Which rows are sampled, and which channels are selected from their scores."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pcdet_distill.distill.init.calibration import SampleWeights, draw_rows
from pcdet_distill.distill.init.layers import as_layer
from pcdet_distill.distill.init.selection import select_channels


def test_rows_are_drawn_where_the_teacher_is_sure_of_a_class() -> None:
    logits = torch.full((1, 2, 4, 4), -9.0)
    logits[0, 1, 2, 3] = 9.0
    batch = {"voxel_coords": torch.tensor([[0.0, 0, 0, 0]]), "batch_size": 1}
    sample_weights = SampleWeights.from_class_logits([logits], batch, grid_size=[8, 8, 1])
    layer = as_layer("layer", nn.Conv2d(3, 3, 1))
    assert layer is not None
    weights = sample_weights.of_rows(layer, torch.zeros(1, 3, 8, 8)).view(8, 8)
    assert weights[4:6, 6:8].min() > 1  # cell (2, 3) of the head, in a map twice as fine
    assert weights[0, 0] == pytest.approx(0.11, abs=0.01)  # the cell with a voxel
    assert weights[3, 3] == pytest.approx(0.01, abs=0.001)  # an empty cell
    generator = torch.Generator().manual_seed(0)
    drawn = [int(draw_rows(weights.flatten(), 1, generator)) for _ in range(100)]
    rows_of_the_class = (4 * 8 + 6, 4 * 8 + 7, 5 * 8 + 6, 5 * 8 + 7)
    assert sum(row in rows_of_the_class for row in drawn) > 70


@pytest.mark.parametrize("count", [64, 65])
def test_drawing_all_rows_needs_no_random_numbers(count: int) -> None:
    """Else later draws would depend on whether an earlier layer had exactly as many rows."""
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert draw_rows(torch.rand(64), count, generator).tolist() == list(range(64))
    assert torch.equal(generator.get_state(), before)
    draw_rows(torch.rand(64), 63, generator)
    assert not torch.equal(generator.get_state(), before)


def test_selection() -> None:
    """Channel 1 repeats channel 0 a little weaker: ``magnitude`` keeps both, ``qr`` does not."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(500, 4, dtype=torch.float64, generator=generator)
    rows = rows * torch.tensor([3.0, 1.0, 2.0, 0.1])
    rows[:, 1] = 0.9 * rows[:, 0]
    products = rows.T @ rows

    def selected(count: int, method: str) -> tuple[int, ...]:
        return tuple(select_channels(products, count, method, generator).tolist())

    assert selected(2, "magnitude") == (0, 1)
    assert selected(2, "qr") == (0, 2)
    assert selected(3, "qr") == (0, 2, 3)
    all_pairs = 4 * 3 // 2
    assert len({selected(2, "random") for _ in range(60)}) == all_pairs
