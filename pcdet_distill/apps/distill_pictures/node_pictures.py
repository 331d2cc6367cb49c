"""Salient nodes by their weight, the part of each node in the loss, and the neighbours of one."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ...distill import NodeFeatures
from ...ops.knn import knn
from ...visualize import BACKGROUND, RING, TEXT, to_picture
from .draw import Scene, add_bar, as_webp, draw_values, panels, prepare
from .spaces import ColourBasis, Moments
from .terms import PredictionPlaces, TermNodes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

QUERY = "#ffffff"
TEACHER_EDGE = "#4cc9f0"
STUDENT_EDGE = "#ffb703"
BOTH_EDGE = "#80ffdb"
BAR_INCH = 0.8
PLANE_INCH = 2.2  # by which the plane is wider than a panel
MOST_THICK = 24  # neighbours up to which lines and dots are thick


def in_percent(values: Tensor) -> Tensor:
    """Parts >= 0 as percent of their sum."""
    return 100 * values / values.sum().clamp_min(torch.finfo(values.dtype).tiny)


@dataclasses.dataclass(frozen=True)
class LocalGraph:
    """One query with its K neighbours.

    Attributes:
        query: row of the nodes.
        neighbours: rows of the teacher's graph, without the query and without repetitions.
        of_student: as many rows nearest to the query in the student's features; None for a graph
            that does not come from feature space.
    """

    query: int
    neighbours: np.ndarray
    of_student: np.ndarray | None

    def shared(self) -> int:
        """Neighbours that both have."""
        if self.of_student is None:
            return 0
        return len(np.intersect1d(self.neighbours, self.of_student))


def draw_weights(scene: Scene, nodes: TermNodes) -> bytes:
    """The points alone, and the nodes by how much they count."""
    assert nodes.details is not None
    figure, axes = panels(scene, 2, BAR_INCH)
    prepare(axes[0], scene, "points")
    prepare(axes[1], scene, "weight of each node")
    weights = in_percent(nodes.details.weights)
    drawn = draw_values(axes[1], nodes.teacher, weights, hide_zero=True)
    add_bar(figure, axes, drawn, "% of all weight; nodes without colour have none")
    return as_webp(figure)


def draw_parts(scene: Scene, named: list[tuple[str, NodeFeatures, Tensor]], words: str) -> bytes:
    """The part of each node in the loss, one panel for each title, on one scale."""
    figure, axes = panels(scene, len(named), BAR_INCH)
    largest = max(float(values.max()) for _, _, values in named)
    for axis, (title, nodes, values) in zip(axes, named):
        prepare(axis, scene, title, with_points=False)
        drawn = draw_values(axis, nodes, values, largest=largest, hide_zero=True)
    add_bar(figure, axes, drawn, words)
    return as_webp(figure)


def draw_places(scene: Scene, named: list[tuple[str, PredictionPlaces]], words: str) -> bytes:
    """Where a term on predictions pulls, the strongest on top."""
    figure, axes = panels(scene, len(named), BAR_INCH)
    largest = max(float(places.pull.max()) for _, places in named)
    for axis, (title, places) in zip(axes, named):
        prepare(axis, scene, title)
        pull = places.pull.cpu().numpy()
        order = np.flatnonzero(pull > 0)
        order = order[np.argsort(pull[order])]
        right, forward = to_picture(places.coords.cpu().numpy()[order]).T
        drawn = axis.scatter(
            right, forward, c=pull[order], s=5, cmap="inferno", vmin=0, vmax=largest, zorder=3
        )
    add_bar(figure, axes, drawn, words)
    return as_webp(figure)


def choose_graph(nodes: TermNodes, is_object: Tensor, *, in_feature_space: bool) -> LocalGraph:
    """The query of the largest weight, on a labelled object if there is one."""
    details = nodes.details
    assert details is not None and len(details.queries)
    weights = details.weights[details.queries]
    has_neighbours = details.is_neighbour.sum(dim=1) > 1
    preferred = has_neighbours & is_object[details.queries]
    for chosen in (preferred, has_neighbours):
        if bool(chosen.any()):
            weights = weights.masked_fill(~chosen, -1.0)
            break
    row = int(weights.argmax())
    query = int(details.queries[row])
    neighbours = details.neighbours[row][details.is_neighbour[row]].cpu().numpy()
    neighbours = np.unique(neighbours[neighbours != query])
    of_student = None
    if in_feature_space:
        features = nodes.student.features
        nearest = knn(features[[query]], features, min(len(neighbours) + 1, len(features)))
        of_student = nearest[0].cpu().numpy()
        of_student = of_student[of_student != query][: len(neighbours)]
    return LocalGraph(query, neighbours, of_student)


def draw_graph(
    scene: Scene, nodes: TermNodes, graph: LocalGraph, space: tuple[Tensor, Tensor]
) -> bytes:
    """The graph from above, and on the plane of the teacher's features.

    Args:
        space: student and teacher (N, D) in one space.
    """
    figure, axes = panels(scene, 2, BAR_INCH)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width + PLANE_INCH, height)
    prepare(axes[0], scene, "the graph from above")
    places = to_picture(nodes.teacher.coords.cpu().numpy())
    _draw_edges(axes[0], places, graph)
    _draw_plane(axes[1], graph, *space)
    return as_webp(figure)


def _draw_edges(axis: Axes, places: np.ndarray, graph: LocalGraph) -> None:
    """Lines from the query to its neighbours in the teacher's and in the student's features."""
    of_student = graph.of_student if graph.of_student is not None else graph.neighbours
    own = np.setdiff1d(of_student, graph.neighbours)
    both = np.intersect1d(graph.neighbours, of_student)
    teacher = np.setdiff1d(graph.neighbours, both)
    has_student = graph.of_student is not None
    shared_words = "neighbours in both" if has_student else "related nodes"
    groups = [
        (own, STUDENT_EDGE, "only in the student's features"),
        (teacher, TEACHER_EDGE, "only in the teacher's features"),
        (both, BOTH_EDGE if has_student else TEACHER_EDGE, shared_words),
    ]
    is_small = len(graph.neighbours) <= MOST_THICK
    width, size = (0.9, 12) if is_small else (0.4, 4)
    for rows, colour, words in groups:
        for number, row in enumerate(rows):
            line = places[[graph.query, row]]
            label = words if number == 0 else None
            axis.plot(*line.T, color=colour, linewidth=width, alpha=0.9, zorder=9, label=label)
        right, forward = places[rows].T
        axis.scatter(right, forward, s=size, color=colour, zorder=10)
    right, forward = places[graph.query]
    axis.scatter(
        right, forward, s=70, marker="*", color=QUERY, zorder=11, label="query", linewidths=0
    )
    _add_legend(axis, below=0.02)


def _draw_plane(axis: Axes, graph: LocalGraph, student: Tensor, teacher: Tensor) -> None:
    """Teacher's features of the graph on the plane in which they differ most, and the student's."""
    rows = torch.from_numpy(np.concatenate([[graph.query], graph.neighbours]))
    ones = torch.ones(len(rows), device=teacher.device)
    basis = ColourBasis.of(Moments.of(teacher[rows], ones))
    of_teacher = basis.components(teacher[rows])[:, :2].cpu().numpy()
    of_student = basis.components(student[rows])[:, :2].cpu().numpy()
    axis.set_facecolor(BACKGROUND)
    is_small = len(graph.neighbours) <= MOST_THICK
    width, size = (0.8, 22) if is_small else (0.3, 7)
    for place in of_teacher[1:]:
        line = np.stack([of_teacher[0], place])
        axis.plot(*line.T, color=TEACHER_EDGE, linewidth=width, alpha=0.7)
    for start, end in zip(of_teacher, of_student):
        axis.plot(
            *np.stack([start, end]).T, color=STUDENT_EDGE, linewidth=width, linestyle=":", alpha=0.9
        )
    first, second = of_teacher.T
    axis.scatter(first, second, s=size, color=TEACHER_EDGE, zorder=3, label="teacher's feature")
    axis.scatter(
        first[0], second[0], s=90, marker="*", color=QUERY, zorder=4, label="query (teacher)"
    )
    first, second = of_student.T
    axis.scatter(first, second, s=size, marker="x", color=STUDENT_EDGE, zorder=3, label="student's")
    axis.set_title("the graph in the teacher's feature space", color=TEXT, fontsize=9.5, pad=5)
    axis.set_xlabel("first component", color=TEXT, fontsize=8)
    axis.set_ylabel("second component", color=TEXT, fontsize=8)
    axis.tick_params(colors=TEXT, labelsize=7)
    for spine in axis.spines.values():
        spine.set_color(RING)
    _add_legend(axis, below=0.12)


def _add_legend(axis: Axes, below: float) -> None:
    """Below the panel, by so much of its height."""
    legend = axis.legend(
        loc="upper center", bbox_to_anchor=(0.5, -below), ncols=2, fontsize=8, frameon=False
    )
    for words in legend.get_texts():
        words.set_color(TEXT)
