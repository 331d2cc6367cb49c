"""Claim: sparse convolution on a CPU is as fast as spconv's or faster, with any number of threads.

Run ``python benchmarks/sparse_conv.py --frames DIR`` with a folder of KITTI's .bin files (default:
one generated scene). It times SECOND's backbone in training mode, forward and backward, for each
frame: ours with one and two threads, and spconv where it is installed (``pip install spconv``).
spconv gets one thread: with more its CPU build gives wrong sums. Printed are ratios of times taken
in turns, and the largest difference of the results. Two threads need two idle cores.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pcdet_distill.models.backbones_3d import VoxelBackBone8x
from pcdet_distill.ops import rulebook
from pcdet_distill.ops.sparse_conv import SparseConvolution, SubMConv3d
from pcdet_distill.ops.voxels import voxelize

RANGE, VOXEL_SIZE, GRID = [0, -40, -3, 70.4, 40, 1], [0.05, 0.05, 0.1], [1408, 1600, 40]
SHAPE = [GRID[2] + 1, GRID[1], GRID[0]]


def load_frames(folder: str | None) -> list[np.ndarray]:
    """Points (N, 4) of every frame."""
    if folder is not None:
        return [
            np.fromfile(file, np.float32).reshape(-1, 4)
            for file in sorted(Path(folder).glob("*.bin"))
        ]
    random = np.random.RandomState(0)
    # Rings on the ground and walls along the street: about as many voxels as in a real frame.
    distance, angle = np.repeat(np.geomspace(4, 60, 40), 350), random.uniform(-0.7, 0.7, 40 * 350)
    ground = np.stack(
        [distance * np.cos(angle), distance * np.sin(angle), random.normal(-1.7, 0.05, 14000)],
        axis=1,
    )
    walls = np.stack(
        [
            random.uniform(5, 60, 6000),
            random.choice([-9, 9], 6000) + random.normal(0, 0.1, 6000),
            random.uniform(-1.7, 0.9, 6000),
        ],
        axis=1,
    )
    xyz = np.concatenate([ground, walls])
    return [np.column_stack([xyz, random.uniform(0, 1, len(xyz))]).astype(np.float32)]


def make_voxels(points: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mean features (M, 4) and (M, 4) int32 batch, z, y, x."""
    voxels, coords, counts = voxelize(points, RANGE, VOXEL_SIZE, 5, 40000)
    features = torch.from_numpy(voxels.sum(axis=1) / counts[:, None].astype(np.float32))
    return features, torch.from_numpy(np.pad(coords, ((0, 0), (1, 0))))


def ours(backbone: VoxelBackBone8x) -> Callable[[Tensor, Tensor], Tensor]:
    """Voxels to dense output."""

    def run(features: Tensor, coords: Tensor) -> Tensor:
        batch = backbone({"voxel_features": features, "voxel_coords": coords, "batch_size": 1})
        return rows_by_place(batch["encoded_spconv_tensor"])

    return run


def rows_by_place(tensor: Any) -> Tensor:
    """Features (N, C), sorted by cell."""
    return tensor.features[torch.argsort(rulebook.cell_keys(tensor.indices, tensor.spatial_shape))]


def spconv_twin(backbone: VoxelBackBone8x) -> Callable[[Tensor, Tensor], Tensor] | None:
    """The same layers with the same parameters by spconv; None where it is not installed."""
    try:
        import spconv.pytorch as spconv
    except ImportError:
        return None
    spconv.ops.get_current_stream = lambda: 0  # its CPU backward asks for a CUDA stream
    layers: list[nn.Module] = []
    for leaf in backbone.modules():
        if isinstance(leaf, SparseConvolution):
            name = "SubMConv3d" if isinstance(leaf, SubMConv3d) else "SparseConv3d"
            twin = getattr(spconv, name)(
                leaf.in_channels,
                leaf.out_channels,
                leaf.kernel.size,
                leaf.kernel.stride,
                leaf.kernel.padding,
                bias=False,
                indice_key=leaf.indice_key,
            )
            twin.weight = leaf.weight
            layers.append(twin)
        elif isinstance(leaf, (nn.BatchNorm1d, nn.ReLU)):
            layers.append(leaf)
    network = spconv.SparseSequential(*layers)
    return lambda features, coords: rows_by_place(
        network(spconv.SparseConvTensor(features, coords, SHAPE, 1))
    )


def time_pass(
    run: Callable[[Tensor, Tensor], Tensor], voxels: tuple[Tensor, Tensor], threads: int
) -> tuple[float, float, Tensor]:
    """Seconds forward, seconds backward, and the output."""
    torch.set_num_threads(threads)
    features, coords = voxels
    start = time.perf_counter()
    output = run(features, coords)
    middle = time.perf_counter()
    output.square().sum().backward()
    return middle - start, time.perf_counter() - middle, output.detach()


def measure(
    runs: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], int]],
    frames: list[tuple[Tensor, Tensor]],
    repeats: int,
) -> tuple[dict[str, tuple[float, float]], dict[str, Tensor]]:
    """Seconds (forward, backward) of a frame: medians over ``repeats``, means over frames."""
    outputs: dict[str, Tensor] = {}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for voxels in frames:
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
        for turn in range(repeats + 1):
            for name, (run, threads) in runs.items():
                forward, backward, outputs[name] = time_pass(run, voxels, threads)
                if turn:
                    times[name].append((forward, backward))
        for name, taken in times.items():
            forwards, backwards = zip(*taken)
            seconds[name].append((statistics.median(forwards), statistics.median(backwards)))
    return {
        name: tuple(map(statistics.fmean, zip(*taken))) for name, taken in seconds.items()
    }, outputs


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", help="folder of KITTI .bin files")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--threads", type=int, nargs="+", default=[1, 2], help="ours runs with each of these"
    )
    args = parser.parse_args()
    torch.manual_seed(0)
    backbone = VoxelBackBone8x(model_cfg={}, input_channels=4, grid_size=GRID).train()
    frames = [make_voxels(points) for points in load_frames(args.frames)]
    runs = {f"ours, {threads} threads": (ours(backbone), threads) for threads in args.threads}
    twin = spconv_twin(backbone)
    if twin is None:
        print("spconv is not installed: no comparison with it")
    else:
        runs["spconv, 1 threads"] = (twin, 1)
    seconds, outputs = measure(runs, frames, args.repeats)
    reference = list(runs)[0 if twin is None else -1]
    base = sum(seconds[reference])
    scale = outputs[reference].abs().max()
    voxels = statistics.fmean(len(coords) for _, coords in frames)
    print(
        f"SECOND's backbone, {len(frames)} frames of {voxels:.0f} voxels; "
        f"ratios and differences against {reference}"
    )
    for name, (forward, backward) in seconds.items():
        difference = ((outputs[name] - outputs[reference]).abs().max() / scale).item()
        print(
            f"{name:17s} forward {forward * 1e3:6.1f} ms   backward {backward * 1e3:6.1f} ms   "
            f"{base / (forward + backward):.2f} x   difference {difference:.0e}"
        )


if __name__ == "__main__":
    main()
