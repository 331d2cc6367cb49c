"""The slot ``map_to_bev`` of pillars: PointPillarScatter."""

from __future__ import annotations

from ...models.backbones_2d.map_to_bev.pointpillar_scatter import PointPillarScatter
from ..graph import Graph, int32

SPATIAL_FEATURES = "map_to_bev_module@spatial_features"


def add_scatter(
    graph: Graph, module: PointPillarScatter, *, features: str, coords: str, is_pillar: str
) -> str:
    """The map (1, C, ny, nx) of pillar features (P, C); cells without a pillar are zero.

    Args:
        coords: (P, 3) int32, z, y, x.
        is_pillar: (P,) bool; rows that only fill up an array of fixed size are none.
    """
    nx, ny = module.nx, module.ny
    _, y, x = graph.add_with_outputs("Split", coords, [1, 1, 1], names=[""] * 3, axis=1)
    row_start = graph.add("Mul", y, int32(nx))
    cell = graph.add("Add", row_start, x)
    # Rows that fill up go to one more cell, which is cut off: whatever their coordinates are, they
    # overwrite no pillar.
    is_pillar = graph.add("Unsqueeze", is_pillar, [1])
    cell = graph.add("Where", is_pillar, cell, int32(nx * ny))
    cell = graph.add("Cast", cell, to=graph.INT64)
    channels = module.num_bev_features
    canvas = graph.add("Expand", 0.0, [nx * ny + 1, channels])
    canvas = graph.add("ScatterND", canvas, cell, features)
    canvas = graph.add("Slice", canvas, [0], [nx * ny], [0])
    canvas = graph.add("Reshape", canvas, [1, ny, nx, channels])
    return graph.add("Transpose", canvas, perm=[0, 3, 1, 2], name=SPATIAL_FEATURES)
