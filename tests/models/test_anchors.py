"""Anchors against positions worked out by hand."""

from __future__ import annotations

import pytest
import torch
from small_model import small_model

from pcdet_distill.errors import ConfigError
from pcdet_distill.models.dense_heads.anchor_generator import AnchorGenerator

SETTINGS = {
    "anchor_sizes": [[4.0, 2.0, 1.5], [1.0, 1.0, 2.0]],
    "anchor_rotations": [0, 1.57],
    "anchor_bottom_heights": [-1.0],
    "align_center": False,
}


def generate(**changes) -> torch.Tensor:
    generator = AnchorGenerator([0, -10, -3, 8, 10, 1], [{**SETTINGS, **changes}])
    anchors, per_location = generator.generate_anchors([(5, 3)])
    assert per_location == [anchors[0].shape[3] * anchors[0].shape[4]]
    return anchors[0]


def test_corner_aligned_positions() -> None:
    anchors = generate()
    assert anchors.shape == (1, 3, 5, 2, 2, 7)
    # From one end of the range to the other.
    assert anchors[0, 0, :, 0, 0, 0].tolist() == [0, 2, 4, 6, 8]
    assert anchors[0, :, 0, 0, 0, 1].tolist() == [-10, 0, 10]


def test_centre_aligned_positions() -> None:
    anchors = generate(align_center=True)
    torch.testing.assert_close(anchors[0, 0, :, 0, 0, 0], torch.tensor([0.8, 2.4, 4.0, 5.6, 7.2]))
    torch.testing.assert_close(anchors[0, :, 0, 0, 0, 1], torch.tensor([-20 / 3, 0, 20 / 3]))


def test_z_size_and_rotation() -> None:
    anchors = generate()
    torch.testing.assert_close(anchors[0, 1, 2, 0, 1], torch.tensor([4, 0, -0.25, 4, 2, 1.5, 1.57]))
    torch.testing.assert_close(anchors[0, 1, 2, 1, 0], torch.tensor([4, 0, 0.0, 1, 1, 2, 0]))


def test_two_heights_are_two_anchors_of_a_cell() -> None:
    anchors = generate(anchor_bottom_heights=[-1.0, 1.0])
    assert anchors.shape == (1, 3, 5, 4, 2, 7)
    torch.testing.assert_close(anchors[0, 0, 0, :, 0, 2], torch.tensor([-0.25, 0.0, 1.75, 2.0]))
    torch.testing.assert_close(anchors[0, 0, 0, :, 0, 3], torch.tensor([4.0, 1.0, 4.0, 1.0]))


def test_missing_setting_is_named() -> None:
    with pytest.raises(ConfigError, match="ANCHOR_GENERATOR_CONFIG.anchor_sizes"):
        AnchorGenerator([0, 0, 0, 1, 1, 1], [{"anchor_size": [[1, 1, 1]]}]).generate_anchors(
            [(2, 2)]
        )


def test_anchors_move_with_the_model_but_are_no_part_of_its_state() -> None:
    head = small_model().dense_head
    assert not any("anchor" in key for key in head.state_dict())
    moved = head.to("meta")
    assert all(anchors.device.type == "meta" for anchors in moved.anchors)
    assert moved.flat_anchors.device.type == "meta"


def test_flat_order_is_cell_class_rotation() -> None:
    head = small_model().dense_head
    flat = head.flat_anchors.view(16, 16, 3, 2, 7)
    for number, anchors in enumerate(head.anchors):
        torch.testing.assert_close(flat[:, :, number], anchors[0, :, :, 0])
