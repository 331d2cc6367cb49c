"""Slot modules with OpenPCDet's names, batch keys and outputs; what they compute is as simple as can be."""

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
    return batch_dict["voxels"].sum(1) / batch_dict["voxel_num_points"].clamp(min=1)[:, None]


class PillarVFE(nn.Module):
    def __init__(self, model_cfg, channels, **kwargs):
        super().__init__()
        self.num_features = model_cfg.NUM_FILTERS[-1]
        self.linear, self.norm = (
            nn.Linear(channels, self.num_features, bias=False),
            nn.BatchNorm1d(self.num_features),
        )

    def forward(self, batch_dict):
        batch_dict["pillar_features"] = self.norm(self.linear(mean_points(batch_dict))).relu()
        return batch_dict


class MeanVFE(nn.Module):
    def __init__(self, model_cfg, channels, **kwargs):
        super().__init__()

    def forward(self, batch_dict):
        batch_dict["voxel_features"] = mean_points(batch_dict)
        return batch_dict


class SparseConvTensor:
    """features (N, C), indices (N, 4) int32 b, z, y, x, spatial_shape z, y, x, as spconv has them."""

    def __init__(self, features, indices, spatial_shape, batch_size):
        self.features, self.indices, self.spatial_shape, self.batch_size = (
            features,
            indices,
            spatial_shape,
            batch_size,
        )

    def dense(self):
        canvas = self.features.new_zeros(
            self.batch_size, *self.spatial_shape, self.features.shape[1]
        )
        canvas[tuple(self.indices.long().T)] = self.features
        return canvas.permute(0, 4, 1, 2, 3)


class VoxelBackBone8x(nn.Module):
    """Cells of two voxels along every axis, each the mean of its voxels."""

    def __init__(self, model_cfg, channels, grid_size, **kwargs):
        super().__init__()
        self.num_features = model_cfg.CHANNELS
        self.linear, self.shape = (
            nn.Linear(channels, model_cfg.CHANNELS),
            [-(-int(n) // 2) for n in grid_size[::-1]],
        )

    def forward(self, batch_dict):
        coords = batch_dict["voxel_coords"].int()
        coords = torch.cat([coords[:, :1], coords[:, 1:] // 2], dim=1)
        cells, rows, counts = torch.unique(coords, dim=0, return_inverse=True, return_counts=True)
        sums = self.linear(batch_dict["voxel_features"])
        features = (
            sums.new_zeros(len(cells), sums.shape[1]).index_add(0, rows, sums) / counts[:, None]
        )
        batch_dict["encoded_spconv_tensor"] = SparseConvTensor(
            features, cells, self.shape, batch_dict["batch_size"]
        )
        batch_dict["encoded_spconv_tensor_stride"] = 2
        return batch_dict


class HeightCompression(nn.Module):
    def __init__(self, model_cfg, channels, grid_size, **kwargs):
        super().__init__()
        self.num_features = channels * -(-int(grid_size[2]) // 2)

    def forward(self, batch_dict):
        batch_dict["spatial_features"] = batch_dict["encoded_spconv_tensor"].dense().flatten(1, 2)
        return batch_dict


class PointPillarScatter(nn.Module):
    def __init__(self, model_cfg, channels, grid_size, **kwargs):
        super().__init__()
        self.num_features, self.size = channels, [int(n) for n in grid_size]

    def forward(self, batch_dict):
        coords, features = batch_dict["voxel_coords"].long(), batch_dict["pillar_features"]
        canvas = features.new_zeros(
            batch_dict["batch_size"], self.size[1], self.size[0], features.shape[1]
        )
        canvas[coords[:, 0], coords[:, 2], coords[:, 3]] = features
        batch_dict["spatial_features"] = canvas.permute(0, 3, 1, 2)
        return batch_dict


class BaseBEVBackbone(nn.Module):
    def __init__(self, model_cfg, channels, **kwargs):
        super().__init__()
        self.num_features = model_cfg.NUM_FILTERS[0]
        self.blocks = nn.ModuleList(
            [
                nn.Sequential(
                    nn.Conv2d(
                        channels,
                        self.num_features,
                        3,
                        stride=model_cfg.LAYER_STRIDES[0],
                        padding=1,
                        bias=False,
                    ),
                    nn.BatchNorm2d(self.num_features),
                    nn.ReLU(),
                )
            ]
        )

    def forward(self, batch_dict):
        batch_dict["spatial_features_2d"] = self.blocks[0](batch_dict["spatial_features"])
        return batch_dict


class PlainCoder:
    code_size = 7

    def decode_torch(self, codes, anchors):
        return codes + anchors

    def encode_torch(self, boxes, anchors):
        return boxes - anchors


class AnchorHeadSingle(nn.Module):
    """One anchor for each class in each cell; the targets are the cells that hold a box's centre."""

    def __init__(self, model_cfg, channels, num_class, grid_size, **kwargs):
        super().__init__()
        self.model_cfg, self.num_class, self.box_coder = model_cfg, num_class, PlainCoder()
        self.conv_cls = nn.Conv2d(channels, num_class * num_class, 1)
        self.conv_box = nn.Conv2d(channels, num_class * 7, 1)
        self.conv_dir_cls = None
        width, height = (
            -(-int(grid_size[0]) // model_cfg.STRIDE),
            -(-int(grid_size[1]) // model_cfg.STRIDE),
        )
        self.cell = model_cfg.CELL
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        place = torch.stack(
            [
                (x + 0.5) * self.cell + model_cfg.ORIGIN[0],
                (y + 0.5) * self.cell + model_cfg.ORIGIN[1],
                torch.full_like(x, -1.0, dtype=torch.float),
            ],
            dim=-1,
        )
        self.anchors = []  # of each class (z, y, x, sizes, rotations, 7); plain tensors, no buffers
        for entry in model_cfg.ANCHOR_GENERATOR_CONFIG:
            size = torch.tensor([*entry["anchor_sizes"][0], 0.0])
            self.anchors.append(
                torch.cat([place, size.expand(height, width, 4)], dim=-1)[None, :, :, None, None]
            )

    def forward(self, batch_dict):
        maps = batch_dict["spatial_features_2d"]
        logits, codes = (conv(maps).permute(0, 2, 3, 1) for conv in (self.conv_cls, self.conv_box))
        self.forward_ret_dict = {
            "cls_preds": logits,
            "box_preds": codes,
            "gt_boxes": batch_dict.get("gt_boxes"),
        }
        if not self.training:
            frames = len(maps)
            anchors = torch.cat(self.anchors, dim=-3).view(1, -1, 7)
            batch_dict["batch_cls_preds"] = logits.reshape(frames, -1, self.num_class)
            batch_dict["batch_box_preds"] = codes.reshape(frames, -1, 7) + anchors
            batch_dict["cls_preds_normalized"] = False
        return batch_dict

    def get_loss(self):
        logits, boxes = self.forward_ret_dict["cls_preds"], self.forward_ret_dict["gt_boxes"]
        wanted = torch.zeros_like(logits)
        for frame, rows in enumerate(boxes):
            for row in rows[rows[:, 7] > 0]:
                x, y = (
                    int((row[axis] - self.model_cfg.ORIGIN[axis]) / self.cell) for axis in (0, 1)
                )
                label = int(row[7]) - 1
                wanted[frame, y, x, label * self.num_class + label] = 1.0
        loss = F.binary_cross_entropy_with_logits(logits, wanted, pos_weight=torch.tensor(20.0))
        loss = loss + 0.1 * self.forward_ret_dict["box_preds"].abs().mean()
        return loss, {"rpn_loss": loss.item()}
