"""Nodes: one form for every kind of feature, so that a distillation loss need not know where it comes from.

A pillar, a voxel, a cell of a map or a point becomes a row with a feature, a frame, a place and a saliency. Teacher and
student rows are brought together by place (``match_nodes``), never by row number: row order is an accident of voxelizer
and device.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import DataError
from ..ops.knn import knn
from ..ops.rulebook import cell_keys

PLACE_MARGIN_M = 1e-4
POINT_REACH_M = (
    0.1  # points of two samples of one cloud: the same point, or one of the same spot of a surface
)
ROI_REACH_M = 0.3  # cells of two proposals for one car: about half of a cell
KEY_FACTOR = 0x5851F42D4C957F2D  # an odd multiplier that spreads the bits of a key


@dataclasses.dataclass(frozen=True)
class NodeGrid:
    """A regular grid in metres; all triples are x, y, z."""

    cell_size_m: tuple[float, float, float]
    origin_m: tuple[float, float, float]
    size: tuple[int, int, int]

    def coarsen(self, stride: int, layers: int = 1) -> NodeGrid:
        """The grid of a map with ``stride`` on the ground, whose cells divide the height into ``layers``."""
        height_m = self.cell_size_m[2] * self.size[2]
        cell = (self.cell_size_m[0] * stride, self.cell_size_m[1] * stride, height_m / layers)
        return NodeGrid(
            cell, self.origin_m, (-(-self.size[0] // stride), -(-self.size[1] // stride), layers)
        )

    def cells_at(self, coords: Tensor) -> Tensor:
        """Cells (N, 3) z, y, x that hold the places ``coords`` (N, 3) in metres; some may lie outside."""
        size, origin = (
            torch.tensor(triple, dtype=torch.float64, device=coords.device)
            for triple in (self.cell_size_m, self.origin_m)
        )
        return torch.floor((coords.double() - origin) / size).long().flip(1)

    def contains(self, cells: Tensor) -> Tensor:
        """Whether each of ``cells`` (N, 3) z, y, x lies in the grid, (N,)."""
        limits = torch.tensor(self.size, device=cells.device).flip(0)
        return ((cells >= 0) & (cells < limits)).all(dim=1)

    def centres(self, cells: Tensor) -> Tensor:
        """Metres (N, 3) x, y, z of the centres of ``cells`` (N, 3) z, y, x."""
        size, origin = (
            torch.tensor(triple, dtype=torch.float32, device=cells.device)
            for triple in (self.cell_size_m, self.origin_m)
        )
        return (cells.flip(1) + 0.5) * size + origin


@dataclasses.dataclass(frozen=True)
class NodeFeatures:
    """N nodes of a batch.

    Attributes:
        features: (N, C).
        batch_index: (N,) int64, the frame of each node.
        coords: (N, 3) x, y, z in metres.
        saliency: (N,) how much stands there: points in a voxel, the channel maximum of a BEV cell or of a point.
        cells: (N, 3) int64 z, y, x in ``grid``; None for nodes without a grid.
        grid: the grid of ``cells``.
        reach_m: without a grid, how far along every axis a node may stand from the one it is matched with.
        may_miss: the places are a model's own choice: two models may have none in common.
        objectness: (N,) the largest class score, 0..1, that the detector's head gives there; None when nobody asked.
    """

    features: Tensor
    batch_index: Tensor
    coords: Tensor
    saliency: Tensor
    cells: Tensor | None = None
    grid: NodeGrid | None = None
    reach_m: float = POINT_REACH_M
    may_miss: bool = False
    objectness: Tensor | None = None

    def __len__(self) -> int:
        return len(self.features)

    def detach(self) -> NodeFeatures:
        """The same nodes, whose features lead no gradient back."""
        return dataclasses.replace(self, features=self.features.detach())

    def at_cells_of(self, other: NodeFeatures) -> NodeFeatures:
        """The same features, at the cells of ``other``: row i of both belongs together."""
        return dataclasses.replace(self, cells=other.cells, grid=other.grid)

    def select(self, rows: Tensor) -> NodeFeatures:
        """The nodes in ``rows`` (M,), in that order."""
        return dataclasses.replace(
            self,
            features=self.features[rows],
            batch_index=self.batch_index[rows],
            coords=self.coords[rows],
            saliency=self.saliency[rows],
            cells=None if self.cells is None else self.cells[rows],
            objectness=None if self.objectness is None else self.objectness[rows],
        )


def as_map(nodes: NodeFeatures) -> Tensor:
    """The map (B, C, H, W) of nodes that are cells of a grid on the ground; a cell without a node is zero."""
    assert nodes.cells is not None and nodes.grid is not None
    width, height, _ = nodes.grid.size
    frames = int(nodes.batch_index[-1]) + 1 if len(nodes) else 0
    features = nodes.features
    places = frames * height * width
    if len(nodes) < places:
        place = (nodes.batch_index * height + nodes.cells[:, 1]) * width + nodes.cells[:, 2]
        features = features.new_zeros(places, features.shape[1]).index_copy(0, place, features)
    return features.view(frames, height, width, features.shape[1]).permute(0, 3, 1, 2)


def grid_of(spec: Any) -> NodeGrid | None:
    """The voxel grid of a DataSpec or dataset; None when it has no voxels."""
    if spec.voxel_size is None or spec.grid_size is None:
        return None
    triples = (spec.voxel_size, spec.point_cloud_range[:3])
    cell, origin = (tuple(round(float(number), 6) for number in triple) for triple in triples)
    return NodeGrid(cell, origin, tuple(int(number) for number in spec.grid_size))  # type: ignore[arg-type]


def voxel_nodes(feature: Tensor, batch_dict: Mapping[str, Any], grid: NodeGrid) -> NodeFeatures:
    """Voxel or pillar features (N, C), row i standing at ``voxel_coords[i]`` (b, z, y, x).

    The saliency is ``voxel_num_points``; where nobody counts, as in OpenPCDet's dynamic pillars, that of ``points``.
    """
    coords = batch_dict["voxel_coords"].long()
    if len(coords) != len(feature):
        raise DataError(
            f"a voxel tap delivered {len(feature)} rows, but voxel_coords has {len(coords)}"
        )
    cells = coords[:, 1:]
    nodes = NodeFeatures(feature, coords[:, 0], grid.centres(cells), coords[:, 0], cells, grid)
    counts = batch_dict.get("voxel_num_points")
    if counts is None or len(counts) != len(coords):
        counts = _points_in_cells(nodes, batch_dict["points"])
    return dataclasses.replace(nodes, saliency=counts)


def bev_nodes(feature: Tensor, batch_dict: Mapping[str, Any], grid: NodeGrid) -> NodeFeatures:
    """Every cell of a BEV map (B, C, H, W), empty ones too."""
    frames, channels, height, width = feature.shape
    features = feature.permute(0, 2, 3, 1).reshape(-1, channels)
    axes = [torch.arange(extent, device=feature.device) for extent in (frames, 1, height, width)]
    place = torch.cartesian_prod(*axes)
    cells = place[:, 1:]
    return NodeFeatures(
        features, place[:, 0], grid.centres(cells), features.detach().amax(dim=1), cells, grid
    )


def sparse_nodes(tensor: Any, batch_dict: Mapping[str, Any], grid: NodeGrid) -> NodeFeatures:
    """The active cells of a sparse tensor: ours or spconv's, with 3D (b, z, y, x) or 2D (b, y, x) indices.

    ``grid`` has the tensor's stride on the ground and the voxels' height; the tensor's own height decides how high its
    cells are. The saliency is the number of ``points`` in a cell.
    """
    indices, shape = tensor.indices.long(), [int(extent) for extent in tensor.spatial_shape]
    if indices.shape[1] == 3:
        frame, places = indices.split((1, 2), dim=1)
        indices, shape = torch.cat([frame, torch.zeros_like(frame), places], dim=1), [1, *shape]
    # An encoder's grid may be padded by a layer or two above: its cells are no lower than a voxel for that.
    own = grid.coarsen(1, layers=shape[0]) if shape[0] < grid.size[2] else grid
    own = dataclasses.replace(own, size=(shape[2], shape[1], shape[0]))
    cells = indices[:, 1:]
    nodes = NodeFeatures(
        tensor.features, indices[:, 0], own.centres(cells), indices[:, 0], cells, own
    )
    return dataclasses.replace(nodes, saliency=_points_in_cells(nodes, batch_dict["points"]))


def point_nodes(
    feature: Tensor, batch_dict: Mapping[str, Any], grid: NodeGrid | None
) -> NodeFeatures:
    """Point features (N, C), row i standing at ``point_coords[i]`` (b, x, y, z) in metres."""
    coords = batch_dict["point_coords"]
    if len(coords) != len(feature):
        raise DataError(
            f"a point tap delivered {len(feature)} rows, but point_coords has {len(coords)}"
        )
    return NodeFeatures(feature, coords[:, 0].long(), coords[:, 1:4], feature.detach().amax(dim=1))


def roi_nodes(
    feature: Tensor, batch_dict: Mapping[str, Any], grid: NodeGrid | None
) -> NodeFeatures:
    """Features (N, C) inside proposals, row i at ``roi_point_coords[i]`` (b, x, y, z) in metres; b -1 is padding."""
    coords = batch_dict["roi_point_coords"]
    if len(coords) != len(feature):
        raise DataError(
            f"a roi tap delivered {len(feature)} rows, but roi_point_coords has {len(coords)}"
        )
    nodes = NodeFeatures(
        feature,
        coords[:, 0].long(),
        coords[:, 1:4],
        feature.detach().amax(dim=1),
        reach_m=ROI_REACH_M,
        may_miss=True,
    )
    return nodes.select(torch.nonzero(nodes.batch_index >= 0).flatten())


NODE_CONVERTERS: dict[str, Callable[[Any, Mapping[str, Any], Any], NodeFeatures]] = {
    "voxel": voxel_nodes,
    "bev": bev_nodes,
    "sparse": sparse_nodes,
    "point": point_nodes,
    "roi": roi_nodes,
}
GRIDLESS_KINDS = ("point", "roi")


def with_objectness(nodes: NodeFeatures, class_scores: Iterable[NodeFeatures]) -> NodeFeatures:
    """``nodes`` with the largest class score at their places.

    Args:
        class_scores: of the same detector's heads; the features are logits, the nodes stand where they were predicted.
            Where none of them stands near enough the objectness is 0.
    """
    best = nodes.features.new_zeros(len(nodes), dtype=torch.float32)
    for scores in class_scores:
        rows, found = (
            _matching_rows(nodes, scores)
            if len(nodes) and len(scores)
            else (nodes.batch_index[:0],) * 2
        )
        likely = scores.features.detach().float().amax(dim=1).sigmoid()
        best[rows] = torch.maximum(best[rows], likely[found])
    return dataclasses.replace(nodes, objectness=best)


def _points_in_cells(nodes: NodeFeatures, points: Tensor) -> Tensor:
    """How many of ``points`` (P, 1 + C) (b, x, y, z, ...) lie in the cell of each node (N,)."""
    assert nodes.grid is not None
    cells = nodes.grid.cells_at(points[:, 1:4])
    inside = nodes.grid.contains(cells)
    keys = _keys_in_grid(nodes.grid, points[inside, 0].long(), cells[inside])
    _, rows = _match_keys(keys, _cell_keys(nodes))
    return torch.bincount(rows, minlength=len(nodes)).to(points.dtype)


def match_nodes(student: NodeFeatures, teacher: NodeFeatures) -> tuple[NodeFeatures, NodeFeatures]:
    """The nodes of both that stand at the same place of the same frame; row i of one belongs to row i of the other.

    On one common grid two nodes match when their cells are equal. Otherwise a student node takes the nearest teacher
    node that is near enough along every axis: within half of the larger cell, or ``reach_m`` of nodes without a grid.
    """
    if len(student) and len(teacher):
        student_rows, teacher_rows = _matching_rows(student, teacher)
        if len(student_rows) == 0 and not (student.may_miss or teacher.may_miss):
            raise DataError(
                "distillation: no node of the student stands where one of the teacher stands; "
                "do their ranges overlap?"
            )
        if len(student_rows) == len(student) == len(teacher) and torch.equal(
            student_rows, teacher_rows
        ):
            return student, teacher
    else:
        student_rows = teacher_rows = student.batch_index.new_zeros(0)
    return student.select(student_rows), teacher.select(teacher_rows)


def _matching_rows(student: NodeFeatures, teacher: NodeFeatures) -> tuple[Tensor, Tensor]:
    """Rows of the student's nodes that have a partner, in order, and those of their partners."""
    if student.grid is not None and student.grid == teacher.grid:
        return _match_keys(_cell_keys(student), _cell_keys(teacher))
    if len(student) == len(teacher) and _same_place(student, teacher).all():
        rows = torch.arange(len(student), device=student.coords.device)
        return rows, rows
    return _match_metres(student, teacher)


def _same_place(student: NodeFeatures, teacher: NodeFeatures) -> Tensor:
    """Whether row i (N,) of both is one place."""
    return (student.batch_index == teacher.batch_index) & (student.coords == teacher.coords).all(
        dim=1
    )


def _cell_keys(nodes: NodeFeatures) -> Tensor:
    """One integer (N,) per frame and cell."""
    assert nodes.grid is not None and nodes.cells is not None
    return _keys_in_grid(nodes.grid, nodes.batch_index, nodes.cells)


def _keys_in_grid(grid: NodeGrid, batch_index: Tensor, cells: Tensor) -> Tensor:
    """One integer (N,) per frame (N,) and cell (N, 3) z, y, x inside ``grid``."""
    width, height, depth = grid.size
    indices = torch.cat([batch_index.unsqueeze(1), cells], dim=1)
    return cell_keys(indices, (depth, height, width))


def _match_keys(student_keys: Tensor, teacher_keys: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of equal keys, in the student's order."""
    if torch.equal(student_keys, teacher_keys):
        rows = torch.arange(len(student_keys), device=student_keys.device)
        return rows, rows
    if len(teacher_keys) == 0:
        return teacher_keys, teacher_keys
    ordered, order = torch.sort(teacher_keys)
    at = torch.searchsorted(ordered, student_keys).clamp_(max=len(ordered) - 1)
    student_rows = torch.nonzero(ordered[at] == student_keys).flatten()
    return student_rows, order[at[student_rows]]


def _match_metres(student: NodeFeatures, teacher: NodeFeatures) -> tuple[Tensor, Tensor]:
    """Rows of each student node with a teacher node near enough, and of that teacher node."""
    reach_m = torch.tensor(
        [_reach_m(student), _reach_m(teacher)], device=student.coords.device
    ).amax(dim=0)
    reach_m += PLACE_MARGIN_M
    partner = _probable_partners(student, teacher)
    low, high = teacher.coords.amin(dim=0) - reach_m, teacher.coords.amax(dim=0) + reach_m
    beyond = ((student.coords < low) | (student.coords > high)).any(
        dim=1
    )  # ranges may differ: no search there
    left = torch.nonzero((partner < 0) & ~beyond).flatten()
    left = left[torch.isin(student.batch_index[left], teacher.batch_index)]
    partner[left] = knn(
        student.coords[left], teacher.coords, 1, student.batch_index[left], teacher.batch_index
    )[:, 0]
    found = torch.nonzero(partner >= 0).flatten()
    apart = (student.coords[found] - teacher.coords[partner[found]]).abs()
    found = found[(apart <= reach_m).all(dim=1)]
    return found, partner[found]


def _probable_partners(student: NodeFeatures, teacher: NodeFeatures) -> Tensor:
    """The nearest teacher node (N,) where it is known without a search, else -1.

    On a grid it is the cell around the place, if the teacher has it; of points it is the same point.
    """
    if teacher.grid is None:
        if student.grid is not None:
            return torch.full_like(student.batch_index, -1)
        student_keys, teacher_keys = (_point_keys(nodes) for nodes in (student, teacher))
        inside = torch.ones_like(student_keys, dtype=torch.bool)
    else:
        cells = teacher.grid.cells_at(student.coords)
        inside = teacher.grid.contains(cells)
        student_keys, teacher_keys = (
            _keys_in_grid(teacher.grid, student.batch_index, cells),
            _cell_keys(teacher),
        )
    rows, found = _match_keys(student_keys, teacher_keys)
    partner = torch.full_like(student.batch_index, -1)
    partner[rows] = found
    return torch.where(inside, partner, -1)


def _point_keys(nodes: NodeFeatures) -> Tensor:
    """One integer (N,) per frame and place, different for different ones but for chance."""
    bits = (
        (nodes.coords.float() + 0.0).contiguous().view(torch.int32).long()
    )  # + 0.0: there are two zeros
    key = nodes.batch_index
    for axis in range(3):
        key = (key * KEY_FACTOR) ^ bits[:, axis]
    return key


def _reach_m(nodes: NodeFeatures) -> tuple[float, float, float]:
    """How far along x, y, z a partner may stand."""
    if nodes.grid is None:
        return (nodes.reach_m,) * 3
    width, depth, height = nodes.grid.cell_size_m
    return width / 2, depth / 2, height / 2
