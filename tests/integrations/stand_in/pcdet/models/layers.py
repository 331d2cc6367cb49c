"""Slot modules with OpenPCDet's names, batch keys and outputs, and the simplest computation."""

import math

import torch
from torch import nn
from torch.nn import functional as F

SLOTS = {
    "vfe": "VFE",
    "backbone_3d": "BACKBONE_3D",
    "map_to_bev_module": "MAP_TO_BEV",
    "backbone_2d": "BACKBONE_2D",
    "dense_head": "DENSE_HEAD",
}


def mean_points(batch_dict):
    """The mean over the points of each voxel, (N, C)."""
    sums = batch_dict["voxels"].sum(1)
    counts = batch_dict["voxel_num_points"].clamp(min=1)
    return sums / counts[:, None]


def half_rounded_up(size):
    """How many cells of two voxels cover ``size`` voxels."""
    return (int(size) + 1) // 2


class PillarVFE(nn.Module):
    """One linear layer on the mean point of each pillar."""

    def __init__(self, model_cfg, channels, **kwargs):
        super().__init__()
        self.num_features = model_cfg.NUM_FILTERS[-1]
        self.linear = nn.Linear(channels, self.num_features, bias=False)
        self.norm = nn.BatchNorm1d(self.num_features)

    def forward(self, batch_dict):
        features = self.linear(mean_points(batch_dict))
        batch_dict["pillar_features"] = self.norm(features).relu()
        return batch_dict


class MeanVFE(nn.Module):
    """The mean point of each voxel."""

    def __init__(self, model_cfg, channels, **kwargs):
        super().__init__()

    def forward(self, batch_dict):
        batch_dict["voxel_features"] = mean_points(batch_dict)
        return batch_dict


class SparseConvTensor:
    """The attributes of spconv's: features (N, C), indices (N, 4) frame, z, y, x, spatial_shape."""

    def __init__(self, features, indices, spatial_shape, batch_size):
        self.features = features
        self.indices = indices
        self.spatial_shape = spatial_shape
        self.batch_size = batch_size

    def dense(self):
        """The whole grid, (B, C, Z, Y, X)."""
        shape = (self.batch_size, *self.spatial_shape, self.features.shape[1])
        canvas = self.features.new_zeros(shape)
        canvas[tuple(self.indices.long().T)] = self.features
        return canvas.permute(0, 4, 1, 2, 3)


class VoxelBackBone8x(nn.Module):
    """Cells of two voxels along every axis, each the mean of its voxels."""

    def __init__(self, model_cfg, channels, grid_size, **kwargs):
        super().__init__()
        self.num_features = model_cfg.CHANNELS
        self.linear = nn.Linear(channels, model_cfg.CHANNELS)
        nx, ny, nz = grid_size
        self.shape = [half_rounded_up(nz), half_rounded_up(ny), half_rounded_up(nx)]

    def forward(self, batch_dict):
        coords = batch_dict["voxel_coords"].int()
        frames = coords[:, :1]
        cells_of_voxels = torch.cat([frames, coords[:, 1:] // 2], dim=1)
        cells, rows, counts = torch.unique(
            cells_of_voxels, dim=0, return_inverse=True, return_counts=True
        )
        features_of_voxels = self.linear(batch_dict["voxel_features"])
        sums = features_of_voxels.new_zeros(len(cells), self.num_features)
        sums = sums.index_add(0, rows, features_of_voxels)
        features = sums / counts[:, None]
        batch_dict["encoded_spconv_tensor"] = SparseConvTensor(
            features, cells, self.shape, batch_dict["batch_size"]
        )
        batch_dict["encoded_spconv_tensor_stride"] = 2
        return batch_dict


class HeightCompression(nn.Module):
    """Channels of all heights side by side."""

    def __init__(self, model_cfg, channels, grid_size, **kwargs):
        super().__init__()
        self.num_features = channels * half_rounded_up(grid_size[2])

    def forward(self, batch_dict):
        grid = batch_dict["encoded_spconv_tensor"].dense()
        batch_dict["spatial_features"] = grid.flatten(1, 2)
        return batch_dict


class PointPillarScatter(nn.Module):
    """Pillars on the map, zeros elsewhere."""

    def __init__(self, model_cfg, channels, grid_size, **kwargs):
        super().__init__()
        self.num_features = channels
        self.size = [int(size) for size in grid_size]

    def forward(self, batch_dict):
        frame, _, y, x = batch_dict["voxel_coords"].long().unbind(dim=1)
        features = batch_dict["pillar_features"]
        nx, ny = self.size[:2]
        canvas = features.new_zeros(batch_dict["batch_size"], ny, nx, self.num_features)
        canvas[frame, y, x] = features
        batch_dict["spatial_features"] = canvas.permute(0, 3, 1, 2)
        return batch_dict


class BaseBEVBackbone(nn.Module):
    """One convolution."""

    def __init__(self, model_cfg, channels, **kwargs):
        super().__init__()
        self.num_features = model_cfg.NUM_FILTERS[0]
        stride = model_cfg.LAYER_STRIDES[0]
        conv = nn.Conv2d(channels, self.num_features, 3, stride=stride, padding=1, bias=False)
        block = nn.Sequential(conv, nn.BatchNorm2d(self.num_features), nn.ReLU())
        self.blocks = nn.ModuleList([block])

    def forward(self, batch_dict):
        batch_dict["spatial_features_2d"] = self.blocks[0](batch_dict["spatial_features"])
        return batch_dict


class PlainCoder:
    """A code is the difference between a box and its anchor."""

    code_size = 7

    def decode_torch(self, codes, anchors):
        """Boxes of codes."""
        return codes + anchors

    def encode_torch(self, boxes, anchors):
        """Codes of boxes."""
        return boxes - anchors


class AnchorHeadSingle(nn.Module):
    """One anchor for each class and cell; cells with the centre of a box are targets."""

    def __init__(self, model_cfg, channels, num_class, grid_size, **kwargs):
        super().__init__()
        self.model_cfg = model_cfg
        self.num_class = num_class
        self.box_coder = PlainCoder()
        self.conv_cls = nn.Conv2d(channels, num_class * num_class, 1)
        self.conv_box = nn.Conv2d(channels, num_class * 7, 1)
        self.conv_dir_cls = None
        self.cell = model_cfg.CELL
        width = math.ceil(int(grid_size[0]) / model_cfg.STRIDE)
        height = math.ceil(int(grid_size[1]) / model_cfg.STRIDE)
        centres = self.centres_of_cells(height, width)
        # Of each class (z, y, x, sizes, rotations, 7). Plain tensors, no buffers, as in OpenPCDet,
        # which puts them on the GPU; here they follow the first batch.
        self.anchors = []
        for entry in model_cfg.ANCHOR_GENERATOR_CONFIG:
            size_and_heading = torch.tensor([*entry["anchor_sizes"][0], 0.0])
            anchors = torch.cat([centres, size_and_heading.expand(height, width, 4)], dim=-1)
            self.anchors.append(anchors[None, :, :, None, None])

    def centres_of_cells(self, height, width):
        """x, y and z of each cell, (H, W, 3); z is -1 m."""
        row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        origin_x, origin_y = self.model_cfg.ORIGIN
        x = (column + 0.5) * self.cell + origin_x
        y = (row + 0.5) * self.cell + origin_y
        z = torch.full_like(row, -1.0, dtype=torch.float)
        return torch.stack([x, y, z], dim=-1)

    def forward(self, batch_dict):
        maps = batch_dict["spatial_features_2d"]
        self.anchors = [anchors.to(maps.device) for anchors in self.anchors]
        logits = self.conv_cls(maps).permute(0, 2, 3, 1)
        codes = self.conv_box(maps).permute(0, 2, 3, 1)
        self.forward_ret_dict = {
            "cls_preds": logits,
            "box_preds": codes,
            "gt_boxes": batch_dict.get("gt_boxes"),
        }
        if not self.training:
            self.write_predictions(batch_dict, logits, codes)
        return batch_dict

    def write_predictions(self, batch_dict, logits, codes):
        """Logits and boxes of all anchors."""
        frames = len(logits)
        anchors = torch.cat(self.anchors, dim=-3).view(1, -1, 7)
        batch_dict["batch_cls_preds"] = logits.reshape(frames, -1, self.num_class)
        batch_dict["batch_box_preds"] = codes.reshape(frames, -1, 7) + anchors
        batch_dict["cls_preds_normalized"] = False

    def class_targets(self, logits):
        """1 at the anchor of a box's class in the cell of its centre, 0 elsewhere."""
        targets = torch.zeros_like(logits)
        origin_x, origin_y = self.model_cfg.ORIGIN
        for frame, boxes in enumerate(self.forward_ret_dict["gt_boxes"]):
            for box in boxes[boxes[:, 7] > 0]:
                x = int((box[0] - origin_x) / self.cell)
                y = int((box[1] - origin_y) / self.cell)
                label = int(box[7]) - 1
                targets[frame, y, x, label * self.num_class + label] = 1.0
        return targets

    def get_loss(self):
        """Cross entropy of classes; codes are only kept small."""
        logits = self.forward_ret_dict["cls_preds"]
        targets = self.class_targets(logits)
        class_loss = F.binary_cross_entropy_with_logits(
            logits, targets, pos_weight=torch.tensor(20.0)
        )
        size_of_codes = self.forward_ret_dict["box_preds"].abs().mean()
        loss = class_loss + 0.1 * size_of_codes
        return loss, {"rpn_loss": loss.item()}
