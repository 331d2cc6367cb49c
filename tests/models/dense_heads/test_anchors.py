"""Anchors against positions worked out by hand."""

from __future__ import annotations

import pytest
import torch
from small_model import small_model

from pcdet_distill.errors import ConfigError
from pcdet_distill.models.dense_heads.anchor_generator import AnchorGenerator

RANGE_M = [0, -10, -3, 8, 10, 1]
GRID = (5, 3)
# Two sizes and two rotations at one height: four anchors a cell.
SETTINGS = {
    "anchor_sizes": [[4.0, 2.0, 1.5], [1.0, 1.0, 2.0]],
    "anchor_rotations": [0, 1.57],
    "anchor_bottom_heights": [-1.0],
    "align_center": False,
}


def generate(**changes) -> torch.Tensor:
    """Anchors (z, y, x, size, rotation, 7) of SETTINGS, some of them changed."""
    generator = AnchorGenerator(RANGE_M, [{**SETTINGS, **changes}])
    (anchors,), (per_location,) = generator.generate_anchors([GRID])
    _, _, _, sizes, rotations, _ = anchors.shape
    assert per_location == sizes * rotations
    return anchors


def positions_along_x(anchors: torch.Tensor) -> torch.Tensor:
    """x of the first anchor of each cell in the first row."""
    return anchors[0, 0, :, 0, 0, 0]


def positions_along_y(anchors: torch.Tensor) -> torch.Tensor:
    """y of the first anchor of each cell in the first column."""
    return anchors[0, :, 0, 0, 0, 1]


def test_anchors_have_a_place_for_every_cell_size_and_rotation() -> None:
    assert generate().shape == (1, 3, 5, 2, 2, 7)


def test_corner_aligned_anchors_go_from_one_end_of_the_range_to_the_other() -> None:
    anchors = generate()
    assert positions_along_x(anchors).tolist() == [0, 2, 4, 6, 8]
    assert positions_along_y(anchors).tolist() == [-10, 0, 10]


def test_centre_aligned_anchors_lie_in_the_middle_of_their_cells() -> None:
    anchors = generate(align_center=True)
    # Cells are 8 / 5 = 1.6 m long and 20 / 3 m wide.
    expected_x = torch.tensor([0.8, 2.4, 4.0, 5.6, 7.2])
    expected_y = torch.tensor([-20 / 3, 0, 20 / 3])
    torch.testing.assert_close(positions_along_x(anchors), expected_x)
    torch.testing.assert_close(positions_along_y(anchors), expected_y)


def test_z_size_and_rotation() -> None:
    middle_cell = generate()[0, 1, 2]
    large_turned = middle_cell[0, 1]
    small_straight = middle_cell[1, 0]
    # z is half the height above the bottom at -1 m.
    torch.testing.assert_close(large_turned, torch.tensor([4, 0, -0.25, 4, 2, 1.5, 1.57]))
    torch.testing.assert_close(small_straight, torch.tensor([4, 0, 0.0, 1, 1, 2, 0]))


def test_two_heights_are_two_anchors_of_a_cell() -> None:
    anchors = generate(anchor_bottom_heights=[-1.0, 1.0])
    assert anchors.shape == (1, 3, 5, 4, 2, 7)
    of_first_cell = anchors[0, 0, 0, :, 0]
    z = of_first_cell[:, 2]
    length = of_first_cell[:, 3]
    torch.testing.assert_close(z, torch.tensor([-0.25, 0.0, 1.75, 2.0]))
    torch.testing.assert_close(length, torch.tensor([4.0, 1.0, 4.0, 1.0]))


def test_missing_setting_is_named() -> None:
    with pytest.raises(ConfigError, match="ANCHOR_GENERATOR_CONFIG.anchor_sizes"):
        generator = AnchorGenerator([0, 0, 0, 1, 1, 1], [{"anchor_size": [[1, 1, 1]]}])
        generator.generate_anchors([(2, 2)])


def test_anchors_are_no_part_of_the_state_of_a_model() -> None:
    head = small_model().dense_head
    assert not any("anchor" in key for key in head.state_dict())


def test_anchors_move_with_the_model() -> None:
    moved = small_model().dense_head.to("meta")
    assert all(anchors.device.type == "meta" for anchors in moved.anchors)
    assert moved.flat_anchors.device.type == "meta"


def test_flat_order_is_cell_class_rotation() -> None:
    head = small_model().dense_head
    rows, columns, classes, rotations = 16, 16, 3, 2
    flat = head.flat_anchors.view(rows, columns, classes, rotations, 7)
    for number, anchors in enumerate(head.anchors):
        one_height_one_size = anchors[0, :, :, 0]
        torch.testing.assert_close(flat[:, :, number], one_height_one_size)
