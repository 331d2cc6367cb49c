"""Geometry and point-cloud operators for any device; fast versions are in ``accelerated``.

``dispatch`` chooses the form of an operator that runs: plain, compiled by numba, or by Triton.

boxes             corners, rotation, IoU; ``nms`` keeps the best of overlapping ones
points            points in boxes; ``roi_pooling`` pools their features
scene_move        motions of whole scenes, drawn before their points move
voxels            points to voxels; ``batch_voxels`` of a batch on its device, ``occurrences`` keys
point_groups      dynamic voxels and pillars; ``segments`` maxima over their points
point_sampling    furthest points and ball queries; ``proposal_sampling`` near proposals
knn               nearest neighbours
vector_pool       cubes of points; ``voxel_query`` neighbouring voxels
stacks            points of all frames one after the other; ``frames`` rows by frame
sparse_conv       sparse convolutions on a ``sparse_tensor``, by a ``rulebook``; ``pairs`` and
                  ``pair_product`` their arithmetic
rows              rows selected and added in a fixed order
precision         number formats; ``constants`` numbers on a device without waiting for it
"""
