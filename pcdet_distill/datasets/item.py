"""The item: one frame as a dict, which augmentations and processing steps read and change.

=================  =======================  ======================================================
key                value                    meaning
=================  =======================  ======================================================
points             (N, C) float32           columns of ``src_feature_list``, later of
                                            ``used_feature_list``
frame_id           str                      name of the frame
gt_boxes           (M, 7 or 9) float32      ``box_fields``; with the label as last column at the end
gt_names           (M,) str                 class of each box; not in the finished item
gt_boxes_mask      (M,) bool                boxes of trained classes; while augmenting only
road_plane, calib  (4,), object             ground of the frame, for gt_sampling
lidar_aug_matrix   (4, 4) float64           from the recorded to the augmented scene
flip_x, ...        bool, float              what each augmentation drew
use_lead_xyz       bool                     points start with x, y, z
voxels             (V, P, C) float32        points by voxel
voxel_coords       (V, 3) int32             z, y, x of each voxel
voxel_num_points   (V,) int32               points in each voxel
teacher            ViewItem                 the points as the teacher's DATA_PROCESSOR makes them
teacher_           PredictedScene           a teacher's stored predictions of the frame; arrays at
predictions                                 the end (``predicted/scene.py``)
=================  =======================  ======================================================

``collate`` joins items to the ``batch_dict``, whose table is in ``models/__init__.py``.
"""

from __future__ import annotations

from typing import Any, TypeAlias

Item: TypeAlias = dict[str, Any]
