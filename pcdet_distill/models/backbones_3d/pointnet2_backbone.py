"""PointNet2MSG: a feature for every point, from set abstraction down and feature propagation up again (PointNet++).

The backbone of PointRCNN (CVPR 2019).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...config import required, same_length
from ..model_utils.pointnet2_modules import PointnetFPModule, PointnetSAModuleMSG
from ..taps import TapInfo

WHERE = "MODEL.BACKBONE_3D"


class PointNet2MSG(nn.Module):
    """Point features from points; every frame has equally many (DATA_PROCESSOR's ``sample_points``)."""

    def __init__(self, model_cfg: Mapping[str, Any], input_channels: int, **kwargs: Any) -> None:
        super().__init__()
        self.model_cfg = model_cfg
        settings = required(model_cfg, "SA_CONFIG", WHERE)
        lists = {
            key: required(settings, key, f"{WHERE}.SA_CONFIG")
            for key in ("NPOINTS", "RADIUS", "NSAMPLE", "MLPS")
        }
        up = required(model_cfg, "FP_MLPS", WHERE)
        same_length({**lists, "FP_MLPS": up}, WHERE)
        self.SA_modules = nn.ModuleList()
        channels = [input_channels - 3]
        for npoint, radii, nsamples, mlps in zip(*lists.values()):
            same_length({"RADIUS": radii, "NSAMPLE": nsamples, "MLPS": mlps}, f"{WHERE}.SA_CONFIG")
            self.SA_modules.append(
                PointnetSAModuleMSG(
                    npoint,
                    radii,
                    nsamples,
                    [[channels[-1], *widths] for widths in mlps],
                    settings.get("USE_XYZ", True),
                )
            )
            channels.append(sum(widths[-1] for widths in mlps))
        below = [widths[-1] for widths in up[1:]] + [channels[-1]]
        self.FP_modules = nn.ModuleList(
            PointnetFPModule([wide + skipped, *widths])
            for wide, skipped, widths in zip(below, channels, up)
        )
        self.num_point_features = up[0][-1]

    def taps(self) -> list[TapInfo]:
        """What can be captured, relative to this slot."""
        return [TapInfo("@point_features", self.num_point_features, None, "point")]

    def forward(self, batch_dict: dict[str, Any]) -> dict[str, Any]:
        """Reads ``points`` (N, 1 + C) and ``batch_size``; writes ``point_features`` (N, C'), ``point_coords`` (N, 4).

        Frames with fewer points than the longest one are filled up with repetitions, and N grows.
        """
        points = even_frames(batch_dict["points"], int(batch_dict["batch_size"]))
        batch_dict["point_coords"] = points[..., :4].flatten(0, 1)
        places = [points[..., 1:4]]
        features: list[Tensor | None] = [points[..., 4:] if points.shape[-1] > 4 else None]
        for module in self.SA_modules:
            centres, found = module(places[-1], features[-1])
            places.append(centres)
            features.append(found)
        carried = features[-1]
        assert carried is not None
        for level in range(len(self.FP_modules) - 1, -1, -1):
            carried = self.FP_modules[level](
                places[level], places[level + 1], features[level], carried
            )
        batch_dict["point_features"] = carried.flatten(0, 1)
        return batch_dict


def even_frames(points: Tensor, batch_size: int) -> Tensor:
    """Points (N, 1 + C), frame in front, as (B, longest, 1 + C): shorter frames repeat, empty ones are a zero point."""
    counts = torch.bincount(points[:, 0].long(), minlength=batch_size).tolist()
    longest = max(max(counts, default=0), 1)
    if min(counts) == longest:
        return points.view(batch_size, longest, -1)
    frames = []
    for frame, own in enumerate(points.split(counts)):
        if len(own) == 0:
            own = nn.functional.pad(points.new_full((1, 1), frame), (0, points.shape[1] - 1))
        frames.append(own[torch.arange(longest, device=points.device) % len(own)])
    return torch.stack(frames)
