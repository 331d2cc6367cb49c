"""Voxel size and limits: a grid that the network can halve, and voxels that are kept."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ....datasets.labelled_objects import has_size
from ....ops.voxels import voxelize
from ....types import ConfigDict
from ..case import Case
from ..finding import Finding, Severity, numbers, percent
from ..grid import cells_of, grid_changes, total_stride

CHECK = "voxels"
UNEVEN = 1e-3  # cells by which a range may miss a whole number
NO_LIMIT = 10**7
TRIED_FRAMES = 12  # of each split
LOST_WARNING = 0.1  # share of the voxels that the limit drops
LOST_ERROR = 0.4
LOST_NOTE = 0.02
POINTS_NOTE = 0.4  # share of the points that full voxels drop
POINTS_WARNING = 0.7
ROOM = 1.25  # of a proposed limit, over the fullest frame
COARSE = 2.0  # cells of the map may be so many times the width of the smallest class
SPARSE_BACKBONE_CELLS_Z = 40  # what 8x backbones with 256 map channels are built for


def check_voxels(case: Case) -> Iterator[Finding]:
    """Whether range and voxels make a grid that works, and the limits keep the points."""
    step = case.step("transform_points_to_voxels") or case.step("calculate_grid_size")
    if step is None or "VOXEL_SIZE" not in step[1]:
        return
    place, block = step
    yield from _grid(case, place, block)
    yield from _coarse(case, place, block)
    if "MAX_NUMBER_OF_VOXELS" in block:
        yield from _limits(case, place, block)


def _grid(case: Case, place: int, block: ConfigDict) -> Iterator[Finding]:
    limits = case.data["POINT_CLOUD_RANGE"]
    voxel = block["VOXEL_SIZE"]
    cells = cells_of(limits, voxel)
    whole = np.round(cells)
    where = f"{case.key('POINT_CLOUD_RANGE')} and VOXEL_SIZE"
    changes = grid_changes(case, limits)
    if (np.abs(cells - whole) > UNEVEN * np.maximum(whole, 1)).any():
        yield Finding(
            CHECK,
            Severity.WARNING,
            where,
            f"the range holds {numbers(cells)} voxels along x, y, z, not whole numbers of them: "
            "the places of cells, anchors and boxes do not agree",
            fix="choose a range that is a multiple of the voxel size",
            changes=changes,
        )
    stride = total_stride(case.model)
    uneven = [name for name, number in zip("xy", whole) if number % stride]
    if uneven:
        yield Finding(
            CHECK,
            Severity.ERROR,
            where,
            f"the grid has {int(whole[0])} x {int(whole[1])} cells, but the network divides it by "
            f"{stride}: its feature maps of different scales will not fit together "
            f"(along {' and '.join(uneven)})",
            fix=f"extend the range until the numbers of cells are multiples of {stride}",
            changes=changes,
        )
    yield from _cells_along_z(case, place, voxel, int(whole[2]))


def _cells_along_z(case: Case, place: int, voxel: list, cells: int) -> Iterator[Finding]:
    """Pillars are as high as the range; sparse backbones are built for 40 cells along z."""
    uses_pillars = str((case.model.get("MAP_TO_BEV") or {}).get("NAME")) == "PointPillarScatter"
    compresses = str((case.model.get("MAP_TO_BEV") or {}).get("NAME")) == "HeightCompression"
    backbone = str((case.model.get("BACKBONE_3D") or {}).get("NAME"))
    low, high = case.data["POINT_CLOUD_RANGE"][2], case.data["POINT_CLOUD_RANGE"][5]
    wanted = 0
    if uses_pillars and cells != 1:
        wanted = 1
        why = "pillars need one cell along z"
    elif (
        compresses
        and backbone == "VoxelBackBone8x"
        and _cells_after(cells) != _cells_after(SPARSE_BACKBONE_CELLS_Z)
        and (case.model.get("MAP_TO_BEV") or {}).get("NUM_BEV_FEATURES") == 256
    ):
        wanted = SPARSE_BACKBONE_CELLS_Z
        why = "NUM_BEV_FEATURES: 256 needs 40 cells along z"
    if not wanted:
        return
    edge = round((high - low) / wanted, 6)
    yield Finding(
        CHECK,
        Severity.ERROR,
        f"{case.key(f'DATA_PROCESSOR.{place}.VOXEL_SIZE')}",
        f"{why}, but z {low:g} to {high:g} with edges of {voxel[2]:g} m makes {cells}",
        fix="let the edge along z follow from the range",
        changes={
            case.key(f"DATA_PROCESSOR.{place}.VOXEL_SIZE"): [*numbers(voxel[:2], 6), edge],
        },
    )


def _cells_after(cells: int) -> int:
    """Cells along z that leave VoxelBackBone8x: three halvings, without padding in the third."""
    cells += 1
    for padding in (1, 1, 0):
        cells = (cells + 2 * padding - 3) // 2 + 1
    return (cells - 3) // 2 + 1


def _coarse(case: Case, place: int, block: ConfigDict) -> Iterator[Finding]:
    """Cells of the head's map against the smallest class."""
    stride = map_stride(case)
    if not stride:
        return
    cell = max(block["VOXEL_SIZE"][:2]) * stride
    widths: dict[str, list[float]] = {}
    for _, labelled in case.objects():
        if has_size(labelled):
            widths.setdefault(labelled.name, []).append(min(labelled.box[3:5]))
    medians = {name: float(np.median(values)) for name, values in widths.items()}
    if not medians:
        return
    name = min(medians, key=lambda key: medians[key])
    if cell <= COARSE * medians[name]:
        return
    yield Finding(
        CHECK,
        Severity.WARNING if cell > 2 * COARSE * medians[name] else Severity.NOTE,
        f"{case.key(f'DATA_PROCESSOR.{place}.VOXEL_SIZE')}",
        f"a cell of the head's map is {cell:.2f} m wide ({stride} voxels), while {name} is "
        f"{medians[name]:.2f} m: neighbours fall into one cell",
        fix="take smaller voxels, or a smaller stride",
    )


def map_stride(case: Case) -> int:
    """Voxels in a cell of the head's map as the yaml says; 0 where it does not."""
    for entry in case.head.get("ANCHOR_GENERATOR_CONFIG") or ():
        return int(entry.get("feature_map_stride", 0))
    settings = case.head.get("TARGET_ASSIGNER_CONFIG") or {}
    return int(settings.get("FEATURE_MAP_STRIDE", 0))


def _limits(case: Case, place: int, block: ConfigDict) -> Iterator[Finding]:
    limits = block["MAX_NUMBER_OF_VOXELS"]
    most_points = int(block["MAX_POINTS_PER_VOXEL"])
    lost_points = []
    for split, mode in (("train", "train"), ("val", "test")):
        if split not in case.splits or mode not in limits:
            continue
        counts = []
        for number, dropped in _voxel_counts(case, split, block["VOXEL_SIZE"], most_points):
            counts.append(number)
            lost_points.append(dropped)
        if counts:
            yield from _too_many(case, place, mode, np.array(counts), int(limits[mode]))
    if not lost_points:
        return
    lost = float(np.mean(lost_points))
    if lost > POINTS_NOTE:
        yield Finding(
            CHECK,
            Severity.WARNING if lost > POINTS_WARNING else Severity.NOTE,
            f"{case.key(f'DATA_PROCESSOR.{place}.MAX_POINTS_PER_VOXEL')}",
            f"{percent(lost)} of the points are dropped, because a voxel holds {most_points} at "
            "most",
            fix="allow more points, or take smaller voxels",
        )


def _voxel_counts(
    case: Case, split: str, voxel: list, most_points: int
) -> Iterator[tuple[int, float]]:
    """Voxels of some frames, and the share of their points that full voxels drop."""
    dataset = case.splits[split].dataset
    for frame in case.splits[split].clouds[:TRIED_FRAMES]:
        assert frame.points is not None
        points = dataset.data_processor.select(frame.points)[:, :3]
        range_ = np.array(case.data["POINT_CLOUD_RANGE"], dtype=np.float32)
        inside = ((points >= range_[:3]) & (points < range_[3:])).all(axis=1)
        points = points[inside]
        if len(points) == 0:
            continue
        _, coords, kept = voxelize(points, range_, voxel, most_points, NO_LIMIT)
        yield len(coords), 1 - float(kept.sum()) / len(points)


def _too_many(
    case: Case, place: int, mode: str, counts: np.ndarray, limit: int
) -> Iterator[Finding]:
    lost = float(np.mean(np.clip(counts - limit, 0, None) / counts))
    if lost <= LOST_NOTE:
        return
    severity = Severity.NOTE
    if lost > LOST_WARNING:
        severity = Severity.ERROR if lost > LOST_ERROR else Severity.WARNING
    key = case.key(f"DATA_PROCESSOR.{place}.MAX_NUMBER_OF_VOXELS.{mode}")
    enough = math.ceil(ROOM * int(counts.max()) / 1000) * 1000
    order = "random ones" if mode == "train" else "those that the sensor scans last"
    yield Finding(
        CHECK,
        severity,
        key,
        f"frames fill {int(np.median(counts))} voxels (at most {int(counts.max())}), but only "
        f"{limit} are kept: {percent(lost)} are dropped, {order}",
        fix="allow more voxels; or take larger ones, or a smaller range",
        changes={key: enough} if severity is not Severity.NOTE else {},
    )
