"""Box coders: boxes as residuals to anchors or points, and back.

ResidualCoder is from SECOND (Sensors 2018), PointResidualCoder from PointRCNN (CVPR 2019). Networks
regress residuals because they have about the same scale for near and far, small and large objects.

No coder changes its inputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

SMALLEST_SIZE_M = 1e-5  # sizes are clamped here before a division or a logarithm


class ResidualCoder:
    """Residuals to anchors.

    Positions are divided by the anchor's diagonal (x, y) or height (z). Sizes are logarithms of the
    ratio to the anchor. Headings and further attributes are differences.

    Args:
        code_size: 7, plus the number of further box attributes (velocities).
        encode_angle_by_sincos: differences of cosine and sine instead of the angle; one code more.
    """

    def __init__(
        self, code_size: int = 7, encode_angle_by_sincos: bool = False, **unused: object
    ) -> None:
        self.box_size = code_size
        self.encode_angle_by_sincos = encode_angle_by_sincos
        self.code_size = code_size + 1 if encode_angle_by_sincos else code_size

    def encode_torch(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """Boxes (..., 7 + C) and anchors (..., 7 + C) to residuals (..., code_size)."""
        size = boxes[..., 3:6].clamp_min(SMALLEST_SIZE_M)
        anchor_size = anchors[..., 3:6].clamp_min(SMALLEST_SIZE_M)
        position = (boxes[..., :3] - anchors[..., :3]) / _position_scale(anchor_size)
        heading = boxes[..., 6:7]
        anchor_heading = anchors[..., 6:7]
        if self.encode_angle_by_sincos:
            angle = [heading.cos() - anchor_heading.cos(), heading.sin() - anchor_heading.sin()]
        else:
            angle = [heading - anchor_heading]
        further = boxes[..., 7 : self.box_size] - anchors[..., 7 : self.box_size]
        return torch.cat([position, torch.log(size / anchor_size), *angle, further], dim=-1)

    def decode_torch(self, codes: Tensor, anchors: Tensor) -> Tensor:
        """Residuals (..., code_size) and anchors, which may broadcast, to boxes (..., 7 + C)."""
        scale = _position_scale(anchors[..., 3:6])
        position = codes[..., :3] * scale + anchors[..., :3]
        size = codes[..., 3:6].exp() * anchors[..., 3:6]
        anchor_heading = anchors[..., 6:7]
        if self.encode_angle_by_sincos:
            cosine = codes[..., 6:7] + anchor_heading.cos()
            sine = codes[..., 7:8] + anchor_heading.sin()
            heading = torch.atan2(sine, cosine)
            further = codes[..., 8:] + anchors[..., 7 : self.box_size]
        else:
            heading = codes[..., 6:7] + anchor_heading
            further = codes[..., 7:] + anchors[..., 7 : self.box_size]
        return torch.cat([position, size, heading, further], dim=-1)


class PointResidualCoder:
    """Residuals to points, with the heading as cosine and sine.

    Args:
        code_size: 8, plus the number of further box attributes.
        use_mean_size: sizes relative to the mean size of the point's class, instead of plain
            logarithms.
        mean_size: (classes, 3) metres, for ``use_mean_size``.
    """

    def __init__(
        self,
        code_size: int = 8,
        use_mean_size: bool = True,
        mean_size: Sequence[Sequence[float]] = (),
        **unused: object,
    ) -> None:
        self.code_size = code_size
        self.use_mean_size = use_mean_size
        self.mean_size = torch.tensor(mean_size, dtype=torch.float32) if use_mean_size else None

    def encode_torch(self, boxes: Tensor, points: Tensor, classes: Tensor | None = None) -> Tensor:
        """Boxes (N, 7 + C), points (N, 3), classes (N,) from 1, to residuals (N, 8 + C)."""
        size = boxes[:, 3:6].clamp_min(SMALLEST_SIZE_M)
        offset = boxes[:, :3] - points
        if self.use_mean_size:
            mean = self._mean_size_of(classes, boxes)
            position = offset / _position_scale(mean)
            log_size = torch.log(size / mean)
        else:
            position = offset
            log_size = torch.log(size)
        heading = boxes[:, 6:7]
        return torch.cat([position, log_size, heading.cos(), heading.sin(), boxes[:, 7:]], dim=1)

    def decode_torch(self, codes: Tensor, points: Tensor, classes: Tensor | None = None) -> Tensor:
        """Residuals (N, 8 + C), points (N, 3), classes (N,) from 1, to boxes (N, 7 + C)."""
        if self.use_mean_size:
            mean = self._mean_size_of(classes, codes)
            position = codes[:, :3] * _position_scale(mean) + points
            size = codes[:, 3:6].exp() * mean
        else:
            position = codes[:, :3] + points
            size = codes[:, 3:6].exp()
        heading = torch.atan2(codes[:, 7:8], codes[:, 6:7])
        return torch.cat([position, size, heading, codes[:, 8:]], dim=1)

    def _mean_size_of(self, classes: Tensor | None, like: Tensor) -> Tensor:
        assert classes is not None and self.mean_size is not None, (
            "mean sizes need the classes of the boxes"
        )
        mean_size = self.mean_size.to(like.device, like.dtype, non_blocking=True)
        return mean_size[classes.long() - 1]


def _position_scale(size: Tensor) -> Tensor:
    """Divisors (..., 3) of positions for sizes (..., 3): diagonal on the ground, height for z."""
    diagonal = torch.sqrt(size[..., 0:1] ** 2 + size[..., 1:2] ** 2)
    return torch.cat([diagonal, diagonal, size[..., 2:3]], dim=-1)


ANCHOR_BOX_CODERS = {"ResidualCoder": ResidualCoder}
POINT_BOX_CODERS = {"PointResidualCoder": PointResidualCoder}
