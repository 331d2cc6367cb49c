"""The search and the sums of the graph loss by Triton against their plain versions."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor
from triton_inputs import features

from pcdet_distill.distill.losses.edges import EDGE_SUM, EdgeComparison, EdgeTables, sum_over_edges
from pcdet_distill.distill.losses.graph import GraphDistillLoss
from pcdet_distill.distill.losses.graph_options import OFFICIAL, GraphOptions
from pcdet_distill.distill.nodes import NodeFeatures
from pcdet_distill.models.taps import TapInfo
from pcdet_distill.ops import dispatch
from pcdet_distill.ops.knn import NEAREST_ROWS, knn, nearest_rows_plain


@pytest.mark.parametrize(
    ("queries", "points", "k", "channels"),
    [(1, 6, 1, 1), (17, 33, 5, 3), (20, 70, 32, 40), (3, 100, 40, 4), (0, 9, 2, 3)],
)
def test_nearest_rows(
    queries: int, points: int, k: int, channels: int, device: torch.device
) -> None:
    """The nearest first, by distances in float64."""
    searched = features(1, points, channels, torch.float32, device)
    wanted = features(2, queries, channels, torch.float32, device)
    rows = NEAREST_ROWS.triton_form()(wanted, searched, k)
    distances = torch.cdist(wanted.double(), searched.double())
    expected = distances.sort(dim=1).values[:, :k]
    torch.testing.assert_close(distances.gather(1, rows), expected, rtol=1e-5, atol=1e-5)
    # No row twice.
    assert (rows.sort(dim=1).values.diff(dim=1) > 0).all()


def test_of_equally_near_points_the_lower_row_wins(device: torch.device) -> None:
    """Whole numbers, so that distances are exact; empty cells of a map are all equal."""
    points = torch.zeros(100, 4, device=device)
    points[50:] = 1
    points[7] = -3
    rows = NEAREST_ROWS.triton_form()(points[[50, 7]], points, 60)
    of_one, of_minus_three = rows.tolist()
    zeros = [row for row in range(50) if row != 7]
    assert of_one == [*range(50, 100), *zeros[:10]]
    assert of_minus_three == [7, *zeros, *range(50, 60)]


def test_points_that_are_no_number_are_far(device: torch.device) -> None:
    points = features(3, 40, 4, torch.float32, device).clone()
    points[::2] = torch.nan
    rows = NEAREST_ROWS.triton_form()(points[1:2], points, 20)
    assert sorted(rows[0].tolist()) == list(range(1, 40, 2))


def test_the_search_inside_frames(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    points = features(4, 90, 5, torch.float32, device)
    frames = torch.arange(90, device=device) * 7 % 2
    found = {}
    for kernels in ("triton", "plain"):
        monkeypatch.setenv(dispatch.VARIABLE, kernels)
        found[kernels] = knn(points, points, 8, frames, frames).sort(dim=1).values
    assert torch.equal(found["triton"], found["plain"])


def test_other_numbers_are_left_to_pytorch(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More neighbours than the kernel keeps, and float64."""
    monkeypatch.setenv(dispatch.VARIABLE, "triton")
    monkeypatch.setattr(NEAREST_ROWS, "triton", "no_such_file:function")
    points = features(5, 300, 3, torch.float32, device)
    for values, k in ((points, 257), (points.double(), 4)):
        expected = nearest_rows_plain(values - values.mean(dim=0), values - values.mean(dim=0), k)
        assert torch.equal(knn(values, values, k), expected)
    with pytest.raises(ImportError):
        knn(points, points, 256)


def tables(width: int, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    """Nodes (30, D) and centres (9, D) of teacher and student; some edges are zero or below."""
    sizes = [(30, 1.0), (9, 0.3), (30, 2.0), (9, 1.0)]
    made = []
    for seed, (count, scale) in enumerate(sizes):
        table = features(10 + seed, count, width, dtype, device) * scale
        made.append(table.requires_grad_())
    return made


@pytest.mark.parametrize("rectify", [True, False])
@pytest.mark.parametrize("distance", ["mse", "smooth_l1"])
@pytest.mark.parametrize(
    ("width", "neighbours", "learning"),
    [(1, 1, (True,) * 4), (32, 40, (False, False, True, True)), (70, 3, (True,) * 4)],
)
def test_distances_of_edges_and_their_gradients(
    rectify: bool,
    distance: str,
    width: int,
    neighbours: int,
    learning: tuple[bool, ...],
    device: torch.device,
) -> None:
    made = tuple(tables(width, torch.float64, device))
    rows = (torch.arange(9 * neighbours, device=device) * 7 // 2 % 30).view(neighbours, 9).T
    for weights in (None, torch.linspace(0, 2, 9, dtype=torch.float64, device=device)):
        given = (rectify, distance, rows, weights, made, learning)
        total, gradients = EDGE_SUM.triton_form()(*given)
        expected, expected_gradients = EDGE_SUM.plain(*given)
        torch.testing.assert_close(total, expected)
        for one, other in zip(gradients, expected_gradients, strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                torch.testing.assert_close(one, other)


def test_the_gradient_of_distances(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dispatch.VARIABLE, "triton")
    rows = (torch.arange(27, device=device) % 30).view(9, 3)
    comparison = EdgeComparison(rectify=True, pool="none", distance="mse")
    torch.autograd.gradcheck(
        lambda *parts: sum_over_edges(
            comparison, rows, None, EdgeTables(*parts[:2]), EdgeTables(*parts[2:])
        ),
        tables(4, torch.float64, device),
        nondet_tol=1e-9,
        fast_mode=True,
    )


def graph_loss(options: GraphOptions, device: torch.device) -> tuple[Tensor, list[Tensor]]:
    """The loss between random nodes of three frames, and all gradients."""
    torch.manual_seed(0)
    taps = [TapInfo("t", channels, 1, "voxel") for channels in (3, 6)]
    loss = GraphDistillLoss(*taps, options).to(device)
    frames = torch.arange(120, device=device) * 7 % 3
    places = features(20, 120, 3, torch.float32, device)
    importance = 1 + torch.arange(120, device=device) % 32
    made = []
    for seed, channels in enumerate((3, 6)):
        values = features(30 + seed, 120, channels, torch.float32, device).requires_grad_()
        made.append(NodeFeatures(values, frames, places, importance.float()))
    student, teacher = made
    total = loss.compute(student, teacher, {})
    learning = [student.features, *loss.parameters()]
    return total, list(torch.autograd.grad(total, learning))


@pytest.mark.parametrize(
    "options", [GraphOptions(score="saliency"), *OFFICIAL.values()], ids=["default", *OFFICIAL]
)
def test_the_whole_loss(
    options: GraphOptions, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = dataclasses.replace(options, num_nodes=25, num_neighbors=12)
    found = {}
    for kernels in ("triton", "plain"):
        monkeypatch.setenv(dispatch.VARIABLE, kernels)
        found[kernels] = graph_loss(options, device)
    total, gradients = found["triton"]
    expected, expected_gradients = found["plain"]
    torch.testing.assert_close(total, expected)
    for one, other in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
