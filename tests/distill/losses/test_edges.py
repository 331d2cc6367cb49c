"""Factored adapters and sums in chunks, against edge tensors and torch's own layers."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from pcdet_distill.distill.losses import edges as module
from pcdet_distill.distill.losses.edges import (
    EdgeAdapter,
    EdgeComparison,
    EdgeTables,
    sum_over_edges,
)


def graph(count=30, queries=9, k=5, channels=4, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, channels, generator=generator, dtype=dtype) * 2 + 1
    return (
        features,
        torch.randperm(count, generator=generator)[:queries],
        torch.randint(0, count, (queries, k), generator=generator),
    )


def written_out(features, queries, neighbours, form):
    """Edges (1, 2C, M, K) as the published code lays them out."""
    near = features[neighbours]
    centre = features[queries][:, None].expand(-1, neighbours.shape[1], -1)
    first = near if form == "concat" else centre - near
    return torch.cat([first, centre], dim=2).permute(2, 0, 1)[None]


@pytest.mark.parametrize("form", module.EDGE_FORMS)
def test_adapter_equals_conv_and_batch_norm(form):
    torch.manual_seed(0)
    adapter = EdgeAdapter(4, 6, edge=form, learned=True).double()
    conv = nn.Conv2d(8, 6, 1, bias=False).double()
    norm = nn.BatchNorm2d(6).double()
    with torch.no_grad():
        conv.weight.copy_(adapter.weight[:, :, None, None])
        for parameter in (adapter.gamma, adapter.beta):
            parameter.add_(torch.randn(6))
        norm.weight.copy_(adapter.gamma)
        norm.bias.copy_(adapter.beta)
    for training in (True, True, False):  # two steps of running statistics, then their use
        adapter.train(training)
        norm.train(training)
        features, queries, neighbours = graph(seed=int(training))
        features.requires_grad_()
        nodes, centres = adapter(features, queries, neighbours)
        expected = norm(conv(written_out(features, queries, neighbours, form)))[0].permute(1, 2, 0)
        torch.testing.assert_close(
            nodes[neighbours] + centres[:, None], expected, rtol=1e-12, atol=1e-12
        )
        torch.testing.assert_close(adapter.running_mean, norm.running_mean, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(adapter.running_var, norm.running_var, rtol=1e-12, atol=1e-12)


def test_fixed_adapters():
    frozen, identity = (
        EdgeAdapter(4, 3, edge="concat", learned=False, identity=flag) for flag in (False, True)
    )
    assert not list(frozen.parameters())
    assert not list(identity.parameters())
    torch.testing.assert_close(frozen.weight @ frozen.weight.t(), torch.eye(3), rtol=0, atol=1e-6)
    features, queries, neighbours = graph(dtype=torch.float32)
    nodes, centres = identity(features, queries, neighbours)
    values = (nodes[neighbours] + centres[:, None]).flatten(0, 1)
    torch.testing.assert_close(values.mean(0), torch.zeros(8), rtol=0, atol=1e-5)
    torch.testing.assert_close(values.var(0, unbiased=False), torch.ones(8), rtol=1e-4, atol=0)
    assert set(frozen.state_dict()) == {
        "weight",
        "running_mean",
        "running_var",
    }  # resumed with the same projection


def test_constant_features_stay_finite():
    adapter = EdgeAdapter(4, 3, edge="difference", learned=True)
    features = torch.full((10, 4), 1e4, requires_grad=True)
    nodes, centres = adapter(features, torch.arange(3), torch.randint(0, 10, (3, 5)))
    (nodes.sum() + centres.sum()).backward()
    assert torch.isfinite(nodes).all()
    assert torch.isfinite(features.grad).all()


def test_float32_keeps_its_digits_over_many_edges():
    torch.manual_seed(0)
    features, queries, neighbours = graph(4000, 3000, 128, dtype=torch.float32)
    adapter = EdgeAdapter(4, 6, edge="concat", learned=True)
    single = adapter(features + 30, queries, neighbours)
    double = adapter.double()(features.double() + 30, queries, neighbours)
    for ours, exact in zip(single, double):
        torch.testing.assert_close(ours.double(), exact, rtol=0, atol=5e-5)


def tables(seed=0, queries=9, count=30, k=5, width=3):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((count, width), (queries, width)) * 2
    made = [
        torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in shapes
    ]
    return (
        made,
        torch.randint(0, count, (queries, k), generator=generator),
        torch.rand(queries, generator=generator),
    )


COMPARISONS = [
    EdgeComparison(*options)
    for options in itertools.product((True, False), module.POOLS, module.ELEMENT_DISTANCES)
]


@pytest.mark.parametrize("comparison", COMPARISONS, ids=str)
@pytest.mark.parametrize("chunk", [1, 40, 1 << 20])
def test_sum_over_edges_whatever_the_chunk(comparison, chunk, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_FLOATS", chunk)
    made, neighbours, weights = tables()
    weights = weights.double()
    total = sum_over_edges(
        comparison, neighbours, weights, EdgeTables(*made[:2]), EdgeTables(*made[2:])
    )
    expected = (
        comparison.rows(
            *(
                comparison.embed(nodes[neighbours], centres)
                for nodes, centres in (made[:2], made[2:])
            )
        )
        * weights
    ).sum()
    torch.testing.assert_close(total, expected, rtol=1e-12, atol=0)
    ours, theirs = (torch.autograd.grad(3 * value, made) for value in (total, expected))
    for own, other in zip(ours, theirs):
        torch.testing.assert_close(own, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "comparison",
    [
        EdgeComparison(True, "none", "mse"),
        EdgeComparison(False, "none", "mse"),
        EdgeComparison(True, "max", "cosine"),
    ],
    ids=str,
)
def test_gradcheck(comparison):
    made, neighbours, weights = tables(queries=4, count=7, k=3)
    torch.autograd.gradcheck(
        lambda *parts: sum_over_edges(
            comparison, neighbours, weights.double(), EdgeTables(*parts[:2]), EdgeTables(*parts[2:])
        ),
        made,
    )


def test_gradcheck_through_the_adapter():
    adapter = EdgeAdapter(3, 2, edge="difference", learned=True).double()
    features, queries, neighbours = graph(count=8, queries=4, k=3, channels=3)

    def through(features, *parameters):  # gradcheck changes the parameters in place
        nodes, centres = adapter(features, queries, neighbours)
        return nodes[neighbours] + centres[:, None]

    torch.autograd.gradcheck(through, (features.requires_grad_(), *adapter.parameters()))


@pytest.mark.parametrize("rectify", [True, False])
def test_negligible_queries_are_left_out(rectify, monkeypatch):
    made, neighbours, _ = tables()
    weights = torch.tensor(
        [1.0, 0.5, 1e-22, 1e-30, 0.0, 3.7e-44, 1e-15, 0.25, 0.0], dtype=torch.float64
    )
    seen = []
    embed = EdgeComparison.embed
    bag = torch.nn.functional.embedding_bag
    monkeypatch.setattr(
        EdgeComparison, "embed", lambda self, n, c: seen.append(len(c)) or embed(self, n, c)
    )
    monkeypatch.setattr(
        module.functional,
        "embedding_bag",
        lambda i, n, mode: seen.append(len(i)) or bag(i, n, mode=mode),
    )
    comparison = EdgeComparison(rectify, "none", "mse")
    total = sum_over_edges(
        comparison, neighbours, weights, EdgeTables(*made[:2]), EdgeTables(*made[2:])
    )
    assert set(seen) == {4}
    rows = [
        (made[0][neighbours[m]] + made[1][m], made[2][neighbours[m]] + made[3][m]) for m in range(9)
    ]
    if rectify:
        rows = [(teacher.relu(), student.relu()) for teacher, student in rows]
    expected = sum(
        weight * (teacher - student).square().sum()
        for weight, (teacher, student) in zip(weights, rows)
    )
    torch.testing.assert_close(total, expected, rtol=1e-12, atol=0)


def test_tables_without_gradient_give_a_sum_without_gradient():
    made, neighbours, _ = tables()
    made = [table.detach() for table in made]
    total = sum_over_edges(
        EdgeComparison(True, "none", "mse"),
        neighbours,
        None,
        EdgeTables(*made[:2]),
        EdgeTables(*made[2:]),
    )
    assert not total.requires_grad
    assert float(total) > 0
