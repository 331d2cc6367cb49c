"""CenterHead: the best cells of each head's heatmaps, with their boxes, scores and labels."""

from __future__ import annotations

from ...models.dense_heads.center_head import BRANCHES, CenterHead
from ...models.dense_heads.center_overlaps import BRANCH as OVERLAP
from ..config import HeadSpec
from ..graph import Graph, columns_of, int32
from .layers import add_sequence
from .trigonometry import add_atan2

PATH = "dense_head"


def add_center_head(graph: Graph, head: CenterHead, features: str) -> list[HeadSpec]:
    """Outputs ``boxes`` (K, 7 + C), ``scores`` (K,), ``labels`` (K,) of every head.

    Heads have a number behind these names where there are several. K is MAX_OBJ_PER_SAMPLE. With
    scores corrected by predicted overlaps, ``peaks`` (K,) are the scores before.
    """
    shared = add_sequence(graph, features, head.shared_conv, f"{PATH}.shared_conv")
    specs = []
    for number in range(len(head.heads_list)):
        suffix = f"_{number}" if len(head.heads_list) > 1 else ""
        specs.append(_add_one_head(graph, head, number, shared, suffix))
    return specs


def _add_one_head(
    graph: Graph, head: CenterHead, number: int, shared: str, suffix: str
) -> HeadSpec:
    path = f"{PATH}.heads_list.{number}"
    branches = {}
    for name, branch in head.heads_list[number].named_children():
        branches[name] = add_sequence(graph, shared, branch, f"{path}.{name}")
    nx, ny = head.feature_map_size
    labels_of_head = head.head_labels[number]
    count = min(head.max_boxes, len(labels_of_head) * ny * nx)
    flat = graph.add("Reshape", branches["hm"], [-1])
    best, place = graph.add_with_outputs("TopK", flat, [count], names=["", ""], axis=0, sorted=1)
    cell = graph.add("Mod", place, [ny * nx])
    boxes = _add_boxes(graph, head, branches, cell, f"boxes{suffix}")
    classes = graph.add("Div", place, [ny * nx])
    labels = graph.add("Gather", int32(labels_of_head), classes, axis=0, name=f"labels{suffix}")
    corrects = head.overlap_exponents is not None
    peaks_name = f"peaks{suffix}" if corrects else f"scores{suffix}"
    peaks = graph.add("Sigmoid", best, name=peaks_name)
    scores = peaks
    if corrects:
        overlaps = _columns_at(graph, branches[OVERLAP], cell, 1)
        scores = _add_correction(graph, head, peaks, overlaps, labels, f"scores{suffix}")
        graph.add_output(peaks, "float32", (count,))
    graph.add_output(boxes, "float32", (count, 7 + (2 if "vel" in head.code_names else 0)))
    graph.add_output(scores, "float32", (count,))
    graph.add_output(labels, "int32", (count,))
    return HeadSpec(
        boxes=boxes,
        scores=scores,
        labels=labels,
        column_labels=(),
        filter_scores=peaks if corrects else None,
    )


def _add_boxes(
    graph: Graph, head: CenterHead, branches: dict[str, str], cell: str, name: str
) -> str:
    """Boxes (K, 7 + C) at cells (K,): ``decode_centers``."""
    nx, _ = head.feature_map_size
    maps = [branches[code] for code in head.code_names]
    joined = graph.add("Concat", *maps, axis=1)
    channels = sum(BRANCHES[code] for code in head.code_names)
    codes = _columns_at(graph, joined, cell, channels)
    column = graph.add("Cast", graph.add("Mod", cell, [nx]), to=graph.FLOAT)
    row = graph.add("Cast", graph.add("Div", cell, [nx]), to=graph.FLOAT)
    parts = []
    for axis, corner in enumerate((column, row)):
        offset = columns_of(graph, codes, axis, axis + 1)
        place = graph.add("Add", graph.add("Unsqueeze", corner, [1]), offset)
        place = graph.add("Mul", place, float(head.cell_size[axis]))
        parts.append(graph.add("Add", place, float(head.origin[axis])))
    parts.append(columns_of(graph, codes, 2, 3))
    parts.append(graph.add("Exp", columns_of(graph, codes, 3, 6)))
    cosine, sine = columns_of(graph, codes, 6, 7), columns_of(graph, codes, 7, 8)
    parts.append(add_atan2(graph, sine, cosine))
    if channels > 8:
        parts.append(columns_of(graph, codes, 8, channels))
    return graph.add("Concat", *parts, axis=1, name=name)


def _columns_at(graph: Graph, feature_map: str, cell: str, channels: int) -> str:
    """Columns (K, channels) of a map (1, channels, ny, nx) at cells (K,), y * nx + x."""
    flat = graph.add("Reshape", feature_map, [channels, -1])
    return graph.add("Transpose", graph.add("Gather", flat, cell, axis=1), perm=[1, 0])


def _add_correction(
    graph: Graph, head: CenterHead, scores: str, overlaps: str, labels: str, name: str
) -> str:
    """Scores (K,) corrected by predicted overlaps (K, 1): ``corrected_scores``."""
    assert head.overlap_exponents is not None
    overlap = graph.add("Reshape", overlaps, [-1])
    overlap = graph.add("Div", graph.add("Add", overlap, 1.0), 2.0)
    overlap = graph.add("Clip", overlap, 0.0, 1.0)
    # Labels start at 1.
    row = graph.add("Sub", labels, int32(1))
    exponent = graph.add("Gather", head.overlap_exponents, row, axis=0)
    complement = graph.add("Gather", 1 - head.overlap_exponents, row, axis=0)
    of_score = graph.add("Pow", scores, complement)
    return graph.add("Mul", of_score, graph.add("Pow", overlap, exponent), name=name)
