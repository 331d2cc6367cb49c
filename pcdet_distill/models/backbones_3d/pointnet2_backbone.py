"""PointNet2MSG: a feature for every point (PointNet++, NeurIPS 2017), the backbone of PointRCNN.

Set abstraction reduces the points level by level and gathers features in balls around those that
are left. Feature propagation then carries the features back to all points. "MSG" is multi-scale
grouping: every level has balls of several radii.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...config import required, same_length
from ...ops.frames import rows_by_frame
from ...types import BatchDict, ConfigDict
from ..model_utils.pointnet2_modules import PointnetFPModule, PointnetSAModuleMSG
from ..taps import TapInfo

WHERE = "MODEL.BACKBONE_3D"


class PointNet2MSG(nn.Module):
    """Point features from points.

    Every frame has equally many, which DATA_PROCESSOR's ``sample_points`` provides.
    """

    def __init__(self, model_cfg: ConfigDict, input_channels: int, **unused: object) -> None:
        super().__init__()
        self.model_cfg = model_cfg
        settings = required(model_cfg, "SA_CONFIG", WHERE)
        where = f"{WHERE}.SA_CONFIG"
        keys = ("NPOINTS", "RADIUS", "NSAMPLE", "MLPS")
        level_settings = {key: required(settings, key, where) for key in keys}
        propagation_widths = required(model_cfg, "FP_MLPS", WHERE)
        same_length({**level_settings, "FP_MLPS": propagation_widths}, WHERE)
        self.SA_modules = nn.ModuleList()
        channels = [input_channels - 3]  # x, y, z are no features
        for npoint, radii, nsamples, mlps in zip(*level_settings.values()):
            same_length({"RADIUS": radii, "NSAMPLE": nsamples, "MLPS": mlps}, where)
            widths_of_balls = [[channels[-1], *widths] for widths in mlps]
            self.SA_modules.append(
                PointnetSAModuleMSG(
                    npoint, radii, nsamples, widths_of_balls, settings.get("USE_XYZ", True)
                )
            )
            channels.append(sum(widths[-1] for widths in mlps))
        self.FP_modules = _propagation_modules(channels, propagation_widths)
        self.num_point_features = propagation_widths[0][-1]

    def taps(self) -> list[TapInfo]:
        """Features that can be captured, with paths relative to this slot."""
        return [TapInfo("@point_features", self.num_point_features, None, "point")]

    def forward(self, batch_dict: BatchDict) -> BatchDict:
        """Compute a feature for every point.

        Reads ``points`` (N, 1 + C) and ``batch_size``. Writes ``point_features`` (N, C') and
        ``point_coords`` (N, 4). Frames with fewer points than the longest one are filled up with
        repetitions, so that N grows.
        """
        points = even_frames(batch_dict["points"], int(batch_dict["batch_size"]))
        batch_dict["point_coords"] = points[..., :4].flatten(0, 1)
        places = [points[..., 1:4]]
        has_features = points.shape[-1] > 4
        features: list[Tensor | None] = [points[..., 4:] if has_features else None]
        for module in self.SA_modules:
            centres, at_centres = module(places[-1], features[-1])
            places.append(centres)
            features.append(at_centres)
        carried = features[-1]
        assert carried is not None
        for level in reversed(range(len(self.FP_modules))):
            propagate = self.FP_modules[level]
            carried = propagate(places[level], places[level + 1], features[level], carried)
        batch_dict["point_features"] = carried.flatten(0, 1)
        return batch_dict


def _propagation_modules(
    channels: Sequence[int], propagation_widths: Sequence[Sequence[int]]
) -> nn.ModuleList:
    """One module a level, which carries features to it from the level above.

    Args:
        channels: of the points and of every set abstraction level, L + 1 numbers.
        propagation_widths: widths of the layers of each module, the points' first.
    """
    modules = nn.ModuleList()
    for level, widths in enumerate(propagation_widths):
        is_last = level == len(propagation_widths) - 1
        # The last level starts from the set abstraction, the others from the module after them.
        carried = channels[-1] if is_last else propagation_widths[level + 1][-1]
        modules.append(PointnetFPModule([carried + channels[level], *widths]))
    return modules


def even_frames(points: Tensor, batch_size: int) -> Tensor:
    """Frames with equally many points: shorter ones repeat theirs, an empty one has a zero point.

    Args:
        points: (N, 1 + C), ordered by the frame, which is the first column.
        batch_size: B.

    Returns:
        (B, longest, 1 + C).
    """
    counts = rows_by_frame(points[:, 0], batch_size)
    longest = max(max(counts, default=0), 1)
    if min(counts) == longest:
        return points.view(batch_size, longest, -1)
    rows = torch.arange(longest, device=points.device)
    frames = []
    for number, of_frame in enumerate(points.split(counts)):
        if len(of_frame) == 0:
            of_frame = points.new_zeros(1, points.shape[1])
            of_frame[0, 0] = number
        frames.append(of_frame[rows % len(of_frame)])
    return torch.stack(frames)
