"""Detectors, built from a MODEL block, and the ``batch_dict`` that runs through their slots.

Every slot reads and writes one dict. Letters in its shapes: B frames, M voxels of up to P points, N
points, G boxes (padded with rows of zeros), A anchors, R proposals, C classes. After
``load_data_to_device`` every array is a float32 tensor.

=======================  =========================  ==================  ============================
key                      shape                      written by          meaning
=======================  =========================  ==================  ============================
points                   (N, 1 + features)          collate             frame, x, y, z, intensity
voxels                   (M, P, features)           collate             points by voxel; unused
                                                                        slots are zero
voxel_num_points         (M,)                       collate             points in each voxel
voxel_coords             (M, 4)                     collate             frame, z, y, x
gt_boxes                 (B, G, 8)                  collate             x, y, z, dx, dy, dz,
                                                                        heading, label from 1;
                                                                        velocities, if any, are
                                                                        before the label
batch_size               int                        collate             B, with frames that have no
                                                                        voxel
frame_id, calib          B each                     collate             unchanged
metadata                 B                          collate             unchanged
is_labelled              (B,)                       collate             which frames are labelled,
                                                                        where others are taken too
loss_frames              (B,) bool                  SoftTargets         frames with a detection loss
use_lead_xyz             (B,)                       collate             points start with x, y, z
scene_move               list of B                  collate             with ON_DEVICE of the
                                                                        augmentation: how the points
                                                                        move on the device
voxel_rule               list of B                  collate             with ON_DEVICE in place of
                                                                        the voxels, which are made
                                                                        on the device
teacher                  dict                       collate             points and voxels of a
                                                                        teacher that needs others
lidar_aug_matrix         (B, 4, 4)                  collate             recorded to augmented scene
flip_x, noise_rot, ...   (B,) each                  collate             what augmentation drew, in
                                                                        training
image_shape              (B, 2) int32               collate             height, width of the image
voxel_features           (M, features)              MeanVFE             mean point of each voxel
pillar_features          (M, channels)              PillarVFE           feature of each pillar
spatial_features         (B, channels, ny, nx)      PointPillarScatter  bird's eye view,
                                                                        channels_last in memory
spatial_features_2d      (B, channels, ny/s, nx/s)  BaseBEVBackbone     input of the dense head
batch_cls_preds          (B, A, C)                  AnchorHeadSingle    logits [1]_
batch_box_preds          (B, A, 7)                  AnchorHeadSingle    decoded boxes [1]_
cls_preds_normalized     bool                       AnchorHeadSingle    False: predictions are
                                                                        logits
point_coords             (N, 4)                     PFE, BACKBONE_3D    frame, x, y, z of keypoints
                                                                        or points
point_features           (N, channels)              PFE, BACKBONE_3D    feature of each of them
point_cls_scores         (N,)                       point heads         probability of an object
rois                     (B, R, 7)                  RoI heads           proposals, padded with rows
                                                                        of zeros
roi_scores               (B, R)                     RoI heads           logit of each proposal
roi_labels               (B, R)                     RoI heads           label of each, from 1
has_class_labels         bool                       RoI heads           whether these labels are
                                                                        final
roi_targets_dict         dict                       PVRCNNPlusPlus      targets of ``rois`` until
                                                                        the RoI head runs
roi_point_features       (N, channels)              RoI heads           of points or cells in RoIs
roi_point_coords         (N, 4)                     RoI heads           frame, x, y, z of these;
                                                                        frame -1 is padding
multihead_label_mapping  list of (classes,)         AnchorHeadMulti     labels of each head, whose
                                                                        logits are a list
final_box_dicts          B dicts                    CenterHead          final boxes, scores and
                                                                        labels, in eval
pillar_coords            (M, 3)                     PillarNet's VFE     frame, y, x
multi_scale_2d_features  x_conv1 to x_conv5         PillarBackBone8x    sparse up to x_conv3, then
                                                                        (B, C, ny/s, nx/s)
multi_scale_2d_strides   x_conv1 to x_conv5         PillarBackBone8x    pillars in a cell: 1 to 16
encoded_spconv_tensor    sparse                     VoxelBackBone8x     stride 8; VoxelNeXt: in 2D
multi_scale_3d_features  x_conv1 to x_conv4         VoxelBackBone8x     sparse levels
multi_scale_3d_strides   x_conv1 to x_conv4         VoxelBackBone8x     voxels in a cell: 1 to 8
=======================  =========================  ==================  ============================

.. [1] In eval, or for a second stage.

A is ordered by y, x, class, size, rotation. In training a RoI head leaves in ``rois`` and
``roi_labels`` only the proposals it has sampled. In eval it replaces ``batch_cls_preds`` and
``batch_box_preds`` by its own, (B, R, ...).

Heads describe themselves, so that other code can read any of them
(``dense_heads/detection_head.py``). ``score_taps()`` names the modules whose outputs are class
logits. ``prediction_layout()`` states what the raw predictions mean.

The slots are ``backbones_3d`` (with ``vfe`` and ``pfe``), ``backbones_2d`` (with ``map_to_bev``),
``dense_heads`` and ``roi_heads``; ``detectors`` puts them together, and ``model_utils`` has what
several of them share. ``taps`` records features, ``trainable`` is the contract with the engine,
``device`` chooses where a model runs, ``eval_mode`` switches it for a while, ``dense_pass``
compiles its dense part for evaluation.
"""

from __future__ import annotations

import numpy as np
import torch

from ..ops.batch_voxels import VoxelRule, voxelize_batch
from ..ops.scene_move import move_points
from ..types import BatchDict, ConfigDict
from .detectors import DETECTORS, build_detector
from .detectors.detector3d_template import Detector3DTemplate
from .detectors.slots import DetectorData
from .device import copy_to_device
from .taps import TapInfo, capture

__all__ = [
    "DETECTORS",
    "Detector3DTemplate",
    "TapInfo",
    "build_network",
    "capture",
    "load_data_to_device",
]

SCENE_MOVE = "scene_move"
VOXEL_RULE = "voxel_rule"
UNCHANGED_KEYS = frozenset({"frame_id", "metadata", "calib", "image_paths"})


def build_network(
    model_cfg: ConfigDict, num_class: int, dataset: DetectorData
) -> Detector3DTemplate:
    """The detector of a MODEL block.

    Args:
        model_cfg: the MODEL block of a config.
        num_class: number of classes, ``len(cfg.CLASS_NAMES)``.
        dataset: a dataset, or ``DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES)`` where none
            is at hand.
    """
    return build_detector(model_cfg, num_class, dataset)


def load_data_to_device(batch_dict: BatchDict, device: torch.device | str) -> None:
    """Turn the arrays of a collated batch into tensors on ``device``, in place.

    They become float32, as in OpenPCDet; only ``image_shape`` becomes int32. A batch inside the
    batch, such as a teacher's, is converted likewise. Points with a ``scene_move`` move here, and a
    batch with a ``voxel_rule`` gets its voxels. On CUDA the copies run beside the step before, and
    the host does not wait for them.
    """
    device = torch.device(device)
    for key, value in batch_dict.items():
        if key in UNCHANGED_KEYS:
            continue
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
            dtype = torch.int32 if key == "image_shape" else torch.float32
            batch_dict[key] = copy_to_device(torch.from_numpy(value).to(dtype), device)
        elif isinstance(value, torch.Tensor):
            batch_dict[key] = value.to(device)
        elif isinstance(value, dict):
            load_data_to_device(value, device)
    moves = batch_dict.pop(SCENE_MOVE, None)
    if moves:
        batch_dict["points"] = move_points(batch_dict["points"], moves)
    rules = batch_dict.pop(VOXEL_RULE, None)
    if rules:
        add_voxels(batch_dict, rules[0])


def add_voxels(batch_dict: BatchDict, rule: VoxelRule) -> None:
    """Make the voxels of a batch from its ``points`` (N, 1 + C), on their device."""
    made = voxelize_batch(batch_dict["points"], int(batch_dict["batch_size"]), rule)
    batch_dict["voxels"] = made.voxels
    batch_dict["voxel_coords"] = made.coords.float()
    batch_dict["voxel_num_points"] = made.num_points.float()
