"""Compile every kernel for NVIDIA GPUs on a machine without one: a program for its test.

The functions of ``ops/accelerated/triton`` run on CPU tensors, but a launch only compiles, down to
machine code. Prints one line a kernel and GPU: name, compute capability, bytes of machine code.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from unittest import mock

import numpy as np
import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction
from triton_inputs import ragged

from pcdet_distill.distill.losses.edges import EDGE_SUM
from pcdet_distill.ops.accelerated.triton import rulebooks
from pcdet_distill.ops.boxes import OVERLAP_BEV
from pcdet_distill.ops.knn import NEAREST_ROWS
from pcdet_distill.ops.nms import GREEDY_NMS
from pcdet_distill.ops.occurrences import FirstOccurrences
from pcdet_distill.ops.pair_product import CONVOLUTION_GRADIENTS, CONVOLVE_ROWS
from pcdet_distill.ops.pairs import MappedRulebook
from pcdet_distill.ops.point_groups import POINT_KEYS, PointGrid
from pcdet_distill.ops.point_sampling import (
    BALL_QUERY,
    FURTHEST_POINTS,
    INTERPOLATE,
    THREE_NEAREST,
)
from pcdet_distill.ops.points import FIRST_BOX, INSIDE_BOXES
from pcdet_distill.ops.roi_pooling import CELL_ARGMAX, FIRST_MEMBERS
from pcdet_distill.ops.rows import ADD_ROWS, ADD_WEIGHTED_ROWS, MOVE_ROWS, SUM_ROWS, TAKE_ROWS
from pcdet_distill.ops.rulebook import STRIDED_RULEBOOK, SUBMANIFOLD_RULEBOOK, Kernel
from pcdet_distill.ops.stacks import Stack
from pcdet_distill.ops.vector_pool import (
    CUBE_PAIRS,
    FIRST_IN_CELLS,
    THREE_IN_CUBES,
    cell_offsets,
)
from pcdet_distill.ops.voxel_query import VOXEL_QUERY, SearchRange, VoxelPlaces

CPU = torch.device("cpu")


class AbsentGpu:
    """What Triton asks its driver before a launch."""

    def __init__(self, capability: int) -> None:
        self.capability = capability

    def get_current_target(self) -> GPUTarget:
        """The GPU for which to compile."""
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        """Kernels are kept by device."""
        return self.capability

    def get_current_stream(self, device: int) -> int:
        """Not used without a launch."""
        return 0


def only_compile(launch: Callable[..., object], capability: int) -> Callable[..., object]:
    """``JITFunction.run`` without the launch."""

    def run(kernel: JITFunction, *args: object, **kwargs: object) -> object:
        compiled = launch(kernel, *args, **{**kwargs, "warmup": True})
        print(kernel.__name__, capability, len(compiled.asm["cubin"]))
        return compiled

    return run


def launch_all() -> None:
    """Call every operator with inputs that reach every kernel.

    Triton compiles a kernel anew where a number is 1, which it then treats as a constant.
    """
    FURTHEST_POINTS.triton_form()(ragged(2, [9000], CPU, on_grid=False), [4], 1024)
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        launch_convolution(torch.ones(59, 59, dtype=dtype))
    launch_convolution(torch.ones(1, 1))
    launch_graph(torch.ones(300, 64), 128)
    for count in (59, 1):
        launch_points(ragged(1, [count], CPU, on_grid=False), count)
        launch_cubes(ragged(1, [count], CPU, on_grid=False), count)
        launch_keys(torch.ones(count, 4), count)
        launch_boxes(torch.ones(count, 3), torch.ones(count, 7), count)
        launch_rulebooks(torch.zeros(count, 4, dtype=torch.int32), count)
        for dtype in (torch.float16, torch.float32):
            launch_rows(torch.ones(count, count, dtype=dtype))


def launch_points(points: Stack, limit: int) -> None:
    """Kernels that choose points, at most ``limit`` of them."""
    FURTHEST_POINTS.triton_form()(points, [limit], 32)
    BALL_QUERY.triton_form()(1.0, limit, points, points)
    THREE_NEAREST.triton_form()(points, points)
    cells = torch.zeros(len(points), 4, dtype=torch.int64)
    voxels = VoxelPlaces(points.xyz, cells)
    within = SearchRange((limit,) * 3, np.float32(1), limit)
    VOXEL_QUERY.triton_form()(voxels, (limit,) * 3, voxels, within)


def launch_cubes(points: Stack, limit: int) -> None:
    """Kernels of vector pooling."""
    shape = (3, 3, 3) if limit > 1 else (1, 1, 1)
    THREE_IN_CUBES.triton_form()(points, points, cell_offsets(1.0, shape), 1.0, limit)
    FIRST_IN_CELLS.triton_form()(points, points, 1.0, shape, limit)
    CUBE_PAIRS.triton_form()(points, points, 1.0, limit)


def launch_rows(rows: Tensor) -> None:
    """Kernels that move rows of features (N, C)."""
    total = len(rows)
    sources = torch.zeros(total, 3, dtype=torch.int64)
    TAKE_ROWS.triton_form()(rows, sources[:, 0])
    ADD_ROWS.triton_form()(rows, sources[:, 0], total)
    MOVE_ROWS.triton_form()(rows, sources[:, 0], sources[:, 1], total)
    SUM_ROWS.triton_form()(rows, sources)
    weights = torch.ones(total, 3)
    INTERPOLATE.triton_form()(rows, sources, weights)
    ADD_WEIGHTED_ROWS.triton_form()(rows, sources, weights, total)
    CELL_ARGMAX.triton_form()(rows, sources[:, 0], sources[:, 0], total)


def launch_keys(points: Tensor, extent: int) -> None:
    """The kernel of points (N, 1+3) and a grid of this extent."""
    POINT_KEYS.triton_form()(points, PointGrid(points[0], points[0], (extent,) * 3, (2, 1, 0)))


def launch_rulebooks(cells: Tensor, extent: int) -> None:
    """Kernels of cells (N, 4) on a grid of this extent, and of the maps between them."""
    shape = (extent,) * 3
    kernel = Kernel((3, 3, 3), (2, 2, 2), (1, 1, 1), (1, 1, 1))
    SUBMANIFOLD_RULEBOOK.triton_form()(cells, shape, kernel)
    # Nothing ran, so the keys of the cells are unknown numbers. These say that all are first.
    numbers = torch.zeros(27 * len(cells), dtype=torch.int64)
    first = FirstOccurrences(numbers == 0, numbers)
    with mock.patch.object(rulebooks, "first_occurrences", return_value=first):
        STRIDED_RULEBOOK.triton_form()(cells, shape, kernel)


def launch_convolution(rows: Tensor) -> None:
    """Kernels of sparse convolution of rows (N, C) by one offset."""
    itself = torch.arange(len(rows), dtype=torch.int32)[None]
    rulebook = MappedRulebook(sources=itself, targets=itself)
    matrices = rows.new_ones(1, rows.shape[1], 20)
    CONVOLVE_ROWS.triton_form()(rows, matrices, rulebook, False)
    grad = rows.new_ones(len(rows), 20)
    CONVOLUTION_GRADIENTS.triton_form()(grad, rows, matrices, rulebook, False)


def launch_graph(nodes: Tensor, neighbours: int) -> None:
    """Kernels of the graph loss, for nodes (N, C) in float32."""
    NEAREST_ROWS.triton_form()(nodes, nodes, neighbours)
    rows = torch.zeros(len(nodes), neighbours, dtype=torch.int64)
    for distance in ("mse", "smooth_l1"):
        EDGE_SUM.triton_form()(True, distance, rows, None, (nodes,) * 4, (True,) * 4)


def launch_boxes(points: Tensor, boxes: Tensor, limit: int) -> None:
    """Kernels of points (N, 3) and boxes (T, 7), at most ``limit`` of either."""
    INSIDE_BOXES.triton_form()(points, boxes)
    FIRST_BOX.triton_form()(points[None], boxes[None])
    FIRST_MEMBERS.triton_form()(points[None], boxes[None], limit)
    OVERLAP_BEV.triton_form()(boxes, boxes)
    # NMS compiles its last kernel before it reads from the GPU how many boxes it kept.
    for rotated in (True, False):
        GREEDY_NMS.triton_form()(boxes, 0.1, rotated, limit)


def main(capabilities: list[int]) -> None:
    """Compile for each of the GPUs."""
    launch = JITFunction.run
    for capability in capabilities:
        triton.runtime.driver.set_active(AbsentGpu(capability))
        JITFunction.run = only_compile(launch, capability)
        launch_all()


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]])
