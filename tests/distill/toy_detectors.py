"""Detectors of ten lines with the batch_dict protocol, for tests of what is around a detector."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from pcdet_distill.models.taps import TapInfo, collect_taps

SPEC = SimpleNamespace(
    voxel_size=[0.5, 0.5, 4.0],
    grid_size=np.array([16, 16, 1]),
    class_names=["Car"],
    point_cloud_range=np.array([0.0, -4.0, -3.0, 8.0, 4.0, 1.0], dtype=np.float32),
    point_feature_encoder=SimpleNamespace(used_feature_list=["x", "y", "z", "intensity"]),
)


class ToyVFE(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.linear = nn.Linear(4, channels)
        self.norm = nn.BatchNorm1d(channels)

    def taps(self):
        return [TapInfo("@pillar_features", self.linear.out_features, 1, "voxel")]

    def forward(self, batch_dict):
        batch_dict["pillar_features"] = torch.relu(
            self.norm(self.linear(batch_dict["voxels"].mean(1)))
        )
        return batch_dict


class ToyBackbone(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.ran = 0

    def taps(self):
        return [TapInfo("@spatial_features_2d", self.conv.out_channels, 2, "bev")]

    def forward(self, batch_dict):
        self.ran += 1
        features = batch_dict["pillar_features"]
        coords = batch_dict["voxel_coords"].long()
        canvas = features.new_zeros(batch_dict["batch_size"], 16, 16, features.shape[1])
        canvas[coords[:, 0], coords[:, 2], coords[:, 3]] = features
        batch_dict["spatial_features_2d"] = self.norm(self.conv(canvas.permute(0, 3, 1, 2)))
        return batch_dict


class ToyDetector(nn.Module):
    """Loss: mean square of the map. Eval: one box per frame, whose score is the map's mean."""

    def __init__(self, channels, seed=0):
        torch.manual_seed(seed)
        super().__init__()
        self.vfe = ToyVFE(channels)
        self.backbone_2d = ToyBackbone(channels)
        self.dataset = SPEC
        self.steps = 0

    def taps(self):
        return collect_taps(self.named_children())

    def run_modules(self, batch_dict, until=None):
        for name, module in self.named_children():
            batch_dict = module(batch_dict)
            if name == until:
                break
        return batch_dict

    def forward(self, batch_dict):
        features = self.run_modules(batch_dict)["spatial_features_2d"]
        if self.training:
            loss = features.square().mean()
            return {"loss": loss}, {"loss_rpn": loss.item()}, {}
        return [{"pred_scores": frame.mean()[None]} for frame in features], {}

    def update_global_step(self):
        self.steps += 1

    def checkpoint_state(self):
        return {"model_state": self.state_dict()}

    def load_checkpoint_state(self, state, where):
        return self.load_state_dict(state["model_state"])


def toy_batch(seed=0, per_frame=40, frames=2):
    """A batch of random pillars, at most one per cell."""
    generator = torch.Generator().manual_seed(seed)
    coords = []
    for frame in range(frames):
        cells = torch.randperm(256, generator=generator)[:per_frame]
        columns = (torch.full_like(cells, frame), torch.zeros_like(cells), cells // 16, cells % 16)
        coords.append(torch.stack(columns, dim=1))
    count = per_frame * frames
    return {
        "voxels": torch.randn(count, 5, 4, generator=generator),
        "voxel_coords": torch.cat(coords).float(),
        "voxel_num_points": torch.randint(1, 6, (count,), generator=generator).float(),
        "batch_size": frames,
    }
