"""Box coders: hand-worked residuals, and decoding undoes encoding."""

from __future__ import annotations

from math import log, pi

import hypothesis
import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from pcdet_distill.models.model_utils.box_coders import PointResidualCoder, ResidualCoder

MEAN_SIZES = [[3.9, 1.6, 1.56], [0.8, 0.6, 1.73]]


def random_boxes(seed: int, count: int = 20, further: int = 0) -> Tensor:
    """Boxes (count, 7 + further) within 50 m, 0.2 m to 4.2 m long, wide and high."""
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(count, 7 + further, generator=generator) * 2 - 1
    boxes[:, :3] *= 50
    boxes[:, 3:6] = boxes[:, 3:6].abs() * 4 + 0.2
    boxes[:, 6] *= pi
    return boxes


def assert_same_boxes(found: Tensor, expected: Tensor) -> None:
    """Equal to a millimetre: the coders work in single precision."""
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


# --- Residuals of anchors


def test_residuals_by_hand() -> None:
    anchor = torch.tensor([[10.0, 0, -1, 3, 4, 2, 0]])
    box = torch.tensor([[15.0, -5, 0, 6, 4, 1, 0.5]])
    # x and y over the anchor's diagonal of 5 m, z over its height of 2 m, logs of size ratios.
    expected = torch.tensor([[1.0, -1.0, 0.5, log(2), 0, -log(2), 0.5]])
    torch.testing.assert_close(ResidualCoder().encode_torch(box, anchor), expected)


def test_residuals_of_an_angle_as_cosine_and_sine_by_hand() -> None:
    anchor = torch.tensor([[0.0, 0, 0, 3, 4, 2, 0]])
    box = torch.tensor([[0.0, 0, 0, 3, 4, 2, pi / 2]])
    coder = ResidualCoder(encode_angle_by_sincos=True)
    codes = coder.encode_torch(box, anchor)
    # cos 90° - cos 0° = -1, sin 90° - sin 0° = 1.
    torch.testing.assert_close(codes, torch.tensor([[0.0, 0, 0, 0, 0, 0, -1, 1]]))


@hypothesis.given(st.integers(0, 10000), st.booleans(), st.integers(0, 2))
@hypothesis.settings(max_examples=30, deadline=None)
def test_decoding_undoes_encoding(seed: int, sincos: bool, further: int) -> None:
    coder = ResidualCoder(code_size=7 + further, encode_angle_by_sincos=sincos)
    boxes = random_boxes(seed, further=further)
    anchors = random_boxes(seed + 1, further=further)
    codes = coder.encode_torch(boxes, anchors)
    angle_columns = 2 if sincos else 1
    assert coder.code_size == 6 + angle_columns + further
    assert codes.shape[-1] == coder.code_size
    assert_same_boxes(coder.decode_torch(codes, anchors), boxes)


def test_anchors_broadcast_over_frames() -> None:
    coder = ResidualCoder()
    boxes = random_boxes(0)
    anchors = random_boxes(1)
    codes = coder.encode_torch(boxes, anchors)
    codes_of_two_frames = codes.expand(2, -1, -1)
    decoded = coder.decode_torch(codes_of_two_frames, anchors)
    assert_same_boxes(decoded[1], boxes)


def test_sizes_of_zero_are_clamped_and_inputs_kept() -> None:
    boxes = torch.zeros(1, 7)
    anchors = torch.zeros(1, 7)
    codes = ResidualCoder().encode_torch(boxes, anchors)
    assert torch.isfinite(codes).all()
    assert (boxes == 0).all()
    assert (anchors == 0).all()


# --- Residuals of points


@pytest.mark.parametrize("use_mean_size", [True, False])
def test_point_coder_decoding_undoes_encoding(use_mean_size: bool) -> None:
    coder = PointResidualCoder(use_mean_size=use_mean_size, mean_size=MEAN_SIZES)
    boxes = random_boxes(3)
    points = random_boxes(4)[:, :3]
    # Labels 1 and 2 in turn.
    classes = torch.arange(len(boxes)) % 2 + 1
    codes = coder.encode_torch(boxes, points, classes)
    assert codes.shape == (len(boxes), 8)
    assert_same_boxes(coder.decode_torch(codes, points, classes), boxes)


def test_point_coder_by_hand() -> None:
    coder = PointResidualCoder(mean_size=[[3.0, 4.0, 2.0]])
    box = torch.tensor([[5.0, 0, 1, 3, 4, 2, 0]])
    point = torch.zeros(1, 3)
    label = torch.ones(1)
    codes = coder.encode_torch(box, point, label)
    # 5 m over the mean diagonal of 5 m, 1 m over the mean height, cosine and sine of the heading.
    torch.testing.assert_close(codes, torch.tensor([[1.0, 0, 0.5, 0, 0, 0, 1, 0]]))
