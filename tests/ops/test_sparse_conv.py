"""Sparse convolution against dense convolution, plain rulebooks, finite differences and spconv."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pcdet_distill.checkpoint import load_model_state
from pcdet_distill.errors import CheckpointError, ConfigError
from pcdet_distill.ops import rulebook as rulebook_module
from pcdet_distill.ops import sparse_conv
from pcdet_distill.ops.accelerated import spconv_adapter
from pcdet_distill.ops.rulebook import Kernel, strided_rulebook_plain, submanifold_rulebook_plain
from pcdet_distill.ops.sparse_conv import (
    SparseConv2d,
    SparseConv3d,
    SparseConvTensor,
    SparseInverseConv2d,
    SparseInverseConv3d,
    SparseSequential,
    SubMConv2d,
    SubMConv3d,
)

LAYERS = {
    2: (SubMConv2d, SparseConv2d, SparseInverseConv2d, F.conv2d),
    3: (SubMConv3d, SparseConv3d, SparseInverseConv3d, F.conv3d),
}


def random_tensor(
    seed: int,
    shape: Sequence[int],
    batch_size: int = 2,
    channels: int = 3,
    cells: int = 40,
    dtype: torch.dtype = torch.float64,
) -> SparseConvTensor:
    """Random features at random cells, in random order."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.stack(
        [
            torch.randint(0, extent, (cells,), generator=generator)
            for extent in (batch_size, *shape)
        ],
        dim=1,
    ).unique(dim=0)
    places = places[torch.randperm(len(places), generator=generator)]
    features = torch.randn(len(places), channels, generator=generator, dtype=dtype)
    return SparseConvTensor(features.requires_grad_(), places, shape, batch_size)


def active(tensor: SparseConvTensor) -> Tensor:
    """1 at the active cells of the dense grid (B, 1, ...)."""
    return tensor.replace_feature(torch.ones(len(tensor.indices), 1, dtype=torch.float64)).dense()


def dense_weight(layer: nn.Module) -> Tensor:
    """(out, ..., in) as torch's (out, in, ...)."""
    return layer.weight.movedim(-1, 1)


@st.composite
def geometries(draw: st.DrawFn) -> dict:
    """A grid, a kernel and a random seed."""
    axes = draw(st.sampled_from([2, 3]))
    per_axis = {
        name: draw(st.lists(values, min_size=axes, max_size=axes))
        for name, values in (
            ("kernel_size", st.integers(1, 3)),
            ("stride", st.integers(1, 3)),
            ("padding", st.integers(0, 2)),
            ("dilation", st.integers(1, 2)),
        )
    }
    shape = [
        draw(st.integers(dilation * (size - 1) + 1, 8))
        for size, dilation in zip(per_axis["kernel_size"], per_axis["dilation"])
    ]
    return {
        "shape": shape,
        "seed": draw(st.integers(0, 2**16)),
        "threads": draw(st.sampled_from([1, 2, 3, 5])),
        "cells": draw(st.integers(1, 80)),
        **per_axis,
    }


@pytest.fixture
def thread_count():
    """Sets the number of threads, and restores it afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def check_against_dense(
    found: SparseConvTensor, expected: Tensor, tensor: SparseConvTensor, layer: nn.Module
) -> None:
    """Values, and gradients of features and weight, at the active cells of ``found``."""
    mask = active(found)
    assert found.dense().shape == expected.shape
    torch.testing.assert_close(found.dense(), expected * mask)
    upstream = torch.randn(
        expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    inputs = (tensor.features, layer.weight)
    for sparse, dense in zip(
        torch.autograd.grad((found.dense() * upstream).sum(), inputs, retain_graph=True),
        torch.autograd.grad((expected * mask * upstream).sum(), inputs, retain_graph=True),
    ):
        torch.testing.assert_close(sparse, dense)


@settings(max_examples=60, deadline=None)
@given(geometries())
def test_strided_and_inverse_equal_dense_convolution(case: dict) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(case["threads"])
    try:
        _, strided, inverse, dense = LAYERS[len(case["shape"])]
        tensor = random_tensor(case["seed"], case["shape"], cells=case["cells"])
        geometry = {name: case[name] for name in ("stride", "padding", "dilation")}
        layer = strided(
            3, 4, case["kernel_size"], bias=False, indice_key="down", **geometry
        ).double()
        found = layer(tensor)
        check_against_dense(
            found, dense(tensor.dense(), dense_weight(layer), **geometry), tensor, layer
        )
        reached = dense(
            active(tensor), torch.ones(1, 1, *case["kernel_size"], dtype=torch.float64), **geometry
        )
        assert torch.equal(active(found) > 0, reached > 0)
        back = inverse(4, 5, case["kernel_size"], indice_key="down", bias=False).double()
        restored = back(found)
        assert torch.equal(restored.indices, tensor.indices)
        assert restored.spatial_shape == tensor.spatial_shape
        # The transpose of a convolution is what its gradient does.
        canvas = torch.zeros(2, 5, *case["shape"], dtype=torch.float64, requires_grad=True)
        forward = dense(canvas, back.weight.movedim(-1, 0), **geometry)
        (transposed,) = torch.autograd.grad(forward, canvas, found.dense(), create_graph=True)
        check_against_dense(restored, transposed, tensor, back)
    finally:
        torch.set_num_threads(before)


@settings(max_examples=40, deadline=None)
@given(geometries())
def test_submanifold_equals_dense_convolution(case: dict) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(case["threads"])
    try:
        submanifold, _, _, dense = LAYERS[len(case["shape"])]
        size = [2 * (size // 2) + 1 for size in case["kernel_size"]]
        tensor = random_tensor(case["seed"], case["shape"], cells=case["cells"])
        layer = submanifold(3, 4, size, dilation=case["dilation"], bias=False).double()
        found = layer(tensor)
        assert torch.equal(found.indices, tensor.indices)
        padding = [extent // 2 * step for extent, step in zip(size, case["dilation"])]
        expected = dense(
            tensor.dense(), dense_weight(layer), padding=padding, dilation=case["dilation"]
        )
        check_against_dense(found, expected, tensor, layer)
    finally:
        torch.set_num_threads(before)


@settings(max_examples=40, deadline=None)
@given(geometries())
def test_compiled_rulebooks_equal_plain_ones(case: dict) -> None:
    indices = random_tensor(case["seed"], case["shape"], cells=case["cells"]).indices
    names = ("kernel_size", "stride", "padding", "dilation")
    kernel = Kernel(*(tuple(case[name]) for name in names))
    compiled, cells = rulebook_module.strided_rulebook(indices, case["shape"], kernel)
    plain, plain_cells = strided_rulebook_plain(indices, case["shape"], kernel)
    assert_same_rulebook(compiled, plain)
    assert torch.equal(cells, plain_cells)
    assert cells.dtype == plain_cells.dtype == torch.int32
    odd = Kernel(
        tuple(2 * (size // 2) + 1 for size in kernel.size),
        *[kernel.stride, kernel.padding, kernel.dilation],
    )
    assert_same_rulebook(
        rulebook_module.submanifold_rulebook(indices, case["shape"], odd),
        submanifold_rulebook_plain(indices, case["shape"], odd),
    )


def assert_same_rulebook(one: rulebook_module.Rulebook, other: rulebook_module.Rulebook) -> None:
    assert torch.equal(one.in_rows, other.in_rows)
    assert torch.equal(one.out_rows, other.out_rows)
    assert (one.counts, one.num_in, one.num_out, one.identity) == (
        other.counts,
        other.num_in,
        other.num_out,
        other.identity,
    )


def test_new_cells_are_numbered_as_they_are_met() -> None:
    """By offset first, then by input row: the order that OpenPCDet's ball queries see."""
    tensor = SparseConvTensor(torch.ones(2, 1), torch.tensor([[0, 0, 3], [0, 0, 0]]), [1, 4], 1)
    layer = SparseConv2d(1, 1, (1, 3), stride=1, padding=(0, 1), bias=False)
    # Offset 0 (x + 1): 4 is outside, 1; offset 1 (x): 3, 0; offset 2 (x - 1): 2, -1 is outside.
    assert layer(tensor).indices[:, 2].tolist() == [1, 3, 0, 2]


@pytest.mark.parametrize("kind", ["submanifold", "strided", "inverse"])
def test_gradients_by_finite_differences(kind: str) -> None:
    tensor = random_tensor(3, [4, 5, 6], channels=2, cells=15)
    down = SparseConv3d(2, 2, 3, 2, 1, indice_key="down").double()
    layer = {
        "submanifold": SubMConv3d(2, 3, 3),
        "strided": SparseConv3d(2, 3, (3, 1, 1), (2, 1, 1)),
        "inverse": SparseInverseConv3d(2, 3, 3, "down"),
    }[kind].double()

    def run(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        inputs = tensor.replace_feature(features)
        inputs = down(inputs) if kind == "inverse" else inputs
        return torch.func.functional_call(
            layer, {"weight": weight, "bias": bias}, (inputs,)
        ).features

    assert torch.autograd.gradcheck(run, (tensor.features, layer.weight, layer.bias))


def test_every_run_gives_the_same_bits(thread_count) -> None:
    tensor = random_tensor(0, [10, 60, 60], channels=16, cells=6000, dtype=torch.float32)
    network = SparseSequential(
        SubMConv3d(16, 32, 3, indice_key="a"),
        SparseConv3d(32, 32, 3, 2, 1, indice_key="b"),
        SparseInverseConv3d(32, 16, 3, "b"),
    )
    for threads in (1, 2):
        thread_count(threads)
        results = []
        for _ in range(3):
            network.zero_grad()
            inputs = SparseConvTensor(
                tensor.features.detach().requires_grad_(), tensor.indices, [10, 60, 60], 2
            )
            output = network(inputs).features
            output.square().sum().backward()
            results.append(
                [
                    output.detach(),
                    inputs.features.grad,
                    *(parameter.grad.clone() for parameter in network.parameters()),
                ]
            )
        for again in results[1:]:
            assert all(map(torch.equal, results[0], again))


def test_frames_never_mix() -> None:
    tensor = random_tensor(5, [4, 6, 6], batch_size=3, cells=150)
    layer = SparseConv3d(3, 4, 3, 2, 1).double()
    together = layer(tensor).dense()
    for frame in range(3):
        rows = tensor.indices[:, 0] == frame
        indices = tensor.indices[rows].clone()
        indices[:, 0] = 0
        alone = layer(SparseConvTensor(tensor.features[rows], indices, [4, 6, 6], 1)).dense()
        torch.testing.assert_close(alone[0], together[frame])


def test_order_of_rows_is_irrelevant() -> None:
    tensor = random_tensor(6, [5, 5, 5], cells=60)
    order = torch.randperm(len(tensor.indices), generator=torch.Generator().manual_seed(0))
    shuffled = SparseConvTensor(tensor.features[order], tensor.indices[order], [5, 5, 5], 2)
    layer = SubMConv3d(3, 4, 3).double()
    torch.testing.assert_close(layer(shuffled).features, layer(tensor).features[order])


def test_inputs_stay_unchanged() -> None:
    tensor = random_tensor(7, [5, 5, 5])
    features = tensor.features.clone()
    indices = tensor.indices.clone()
    SparseConv3d(3, 4, 3, 2, 1).double()(tensor).features.sum().backward()
    assert torch.equal(tensor.features, features)
    assert torch.equal(tensor.indices, indices)


@pytest.mark.parametrize("layer", [SubMConv3d(3, 4, 3), SparseConv3d(3, 4, 3, 2, 1)])
def test_no_cell_at_all(layer: nn.Module) -> None:
    layer = layer.double()
    tensor = SparseConvTensor(
        torch.zeros(0, 3, dtype=torch.float64, requires_grad=True),
        torch.zeros(0, 4, dtype=torch.int32),
        [4, 4, 4],
        2,
    )
    found = layer(tensor)
    assert found.features.shape == (0, 4)
    assert found.dense().shape[0] == 2
    found.features.sum().backward()
    assert tensor.features.grad.shape == (0, 3)
    assert layer.weight.grad.abs().sum() == 0


def test_plain_rulebooks_of_no_cell() -> None:
    kernel = Kernel((3, 3), (2, 2), (1, 1), (1, 1))
    indices = torch.zeros(0, 3, dtype=torch.int32)
    plain, cells = strided_rulebook_plain(indices, [4, 4], kernel)
    assert len(plain.in_rows) == 0
    assert cells.shape == (0, 3)
    assert submanifold_rulebook_plain(indices, [4, 4], kernel).counts == (0,) * 9


def test_a_cell_alone_and_an_empty_last_frame() -> None:
    tensor = SparseConvTensor(torch.tensor([[2.0]]), torch.tensor([[0, 1, 1, 1]]), [3, 3, 3], 2)
    layer = SubMConv3d(1, 1, 3, bias=False)
    assert layer(tensor).features.item() == pytest.approx(2 * layer.weight[0, 1, 1, 1, 0].item())
    dense = SparseConv3d(1, 1, 3, 2, 1, bias=False)(tensor).dense()
    assert dense.shape == (2, 1, 2, 2, 2)
    assert dense[1].abs().sum() == 0


def test_rulebooks_are_shared_by_key(monkeypatch) -> None:
    built = []
    original = sparse_conv.submanifold_rulebook
    monkeypatch.setattr(
        sparse_conv, "submanifold_rulebook", lambda *given: built.append(1) or original(*given)
    )
    tensor = random_tensor(8, [5, 5, 5])
    SparseSequential(
        SubMConv3d(3, 4, 3, indice_key="a"),
        SubMConv3d(4, 5, 3, indice_key="a"),
        nn.ReLU(),
        SubMConv3d(5, 5, 3, indice_key="b"),
        SubMConv3d(5, 5, 3),
    ).double()(tensor)
    assert len(built) == 3
    assert set(tensor.indice_dict) == {"a", "b"}


def test_key_of_another_convolution_is_refused() -> None:
    tensor = random_tensor(9, [5, 5, 5])
    first = SubMConv3d(3, 3, 3, indice_key="a").double()(tensor)
    with pytest.raises(ConfigError, match="indice_key 'a' belongs to"):
        SubMConv3d(3, 3, 1, indice_key="a").double()(first)
    moved = SparseConv3d(3, 3, 3, 2, 1, indice_key="down").double()(first)
    with pytest.raises(ConfigError, match="indice_key 'a' belongs to"):
        SubMConv3d(3, 3, 3, indice_key="a").double()(moved)
    with pytest.raises(ConfigError, match="has left indice_key 'up'"):
        SparseInverseConv3d(3, 3, 3, "up").double()(moved)
    with pytest.raises(ConfigError, match=r"no convolution of kernel \[1, 1, 1\]"):
        SparseInverseConv3d(3, 3, 1, "down").double()(moved)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"kernel_size is \[3, 2, 3\].*odd"):
        SubMConv3d(1, 1, (3, 2, 3))
    with pytest.raises(ConfigError, match="groups is 2"):
        SparseConv3d(2, 2, 3, groups=2)
    with pytest.raises(ConfigError, match="has 2 entries, expected 3"):
        SparseConv3d(2, 2, (3, 3))
    with pytest.raises(ConfigError, match=r"a grid of \[2, 5, 5\] cells is too small"):
        SparseConv3d(3, 3, 3).double()(random_tensor(0, [2, 5, 5]))


def test_weights_have_the_layout_of_spconv_2() -> None:
    assert SparseConv3d(4, 16, (3, 1, 5)).weight.shape == (16, 3, 1, 5, 4)
    assert SubMConv2d(4, 16, 3).weight.shape == (16, 3, 3, 4)
    assert SparseInverseConv3d(4, 16, 3, "a").weight.shape == (16, 3, 3, 3, 4)
    assert list(SubMConv3d(1, 1, 3, bias=False).state_dict()) == ["weight"]


def test_weights_of_spconv_1_are_converted() -> None:
    tensor = random_tensor(10, [5, 5, 5])
    layer = SubMConv3d(3, 4, 3).double()
    other = SubMConv3d(3, 4, 3).double()
    old = {
        "weight": layer.weight.detach().permute(1, 2, 3, 4, 0).contiguous(),
        "bias": layer.bias.detach(),
    }
    load_model_state(other, old, strict=True, where="old.pth")
    assert torch.equal(other(tensor).features, layer(tensor).features)
    with pytest.raises(CheckpointError, match=r"weight \(3, 3, 3, 3, 5\), model \(4, 3, 3, 3, 3\)"):
        load_model_state(
            other, {**old, "weight": torch.zeros(3, 3, 3, 3, 5)}, strict=True, where="old.pth"
        )


def test_sequential_runs_ordinary_modules_on_the_rows() -> None:
    tensor = random_tensor(11, [4, 4], cells=10, channels=2)
    layer = SubMConv2d(2, 3, 3).double()
    norm = nn.BatchNorm1d(3).double()
    found = SparseSequential(layer, norm, nn.ReLU())(tensor)
    expected = torch.relu(
        F.batch_norm(layer(tensor).features, None, None, norm.weight, norm.bias, training=True)
    )
    torch.testing.assert_close(found.features, expected)
    assert found.indices is tensor.indices
    assert found.indice_dict is tensor.indice_dict


def test_dense_places_features() -> None:
    tensor = SparseConvTensor(
        torch.tensor([[1.0, 2], [3, 4]]), torch.tensor([[1, 0, 2], [0, 1, 0]]), [2, 3], 2
    )
    canvas = tensor.dense()
    assert canvas.shape == (2, 2, 2, 3)
    assert canvas[1, :, 0, 2].tolist() == [1, 2]
    assert canvas[0, :, 1, 0].tolist() == [3, 4]
    assert canvas.sum() == 10
    assert torch.equal(tensor.dense(channels_first=False), canvas.permute(0, 2, 3, 1))
    assert "2 cells x 2 channels" in repr(tensor)


def test_devices_agree_with_the_cpu(device: torch.device, monkeypatch) -> None:
    """With ``--device cuda`` both the package's own way and spconv, where it is installed."""
    tensor = random_tensor(12, [9, 20, 20], channels=8, cells=800, dtype=torch.float32)
    network = SparseSequential(
        SubMConv3d(8, 16, 3, indice_key="a"),
        SparseConv3d(16, 16, 3, 2, 1, indice_key="b"),
        SparseInverseConv3d(16, 8, 3, "b"),
    )
    expected = network(tensor).dense()
    for with_spconv in (False, True):
        if not with_spconv:
            monkeypatch.setattr(spconv_adapter, "spconv_module", lambda: None)
        else:
            monkeypatch.undo()
        there = SparseConvTensor(
            tensor.features.to(device), tensor.indices.to(device), [9, 20, 20], 2
        )
        found = network.to(device)(there).dense()
        torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-4)
        network.cpu()


def test_spconv_runs_our_layers(monkeypatch, thread_count) -> None:
    """On a CPU with one thread, where spconv is right, numbers and order of rows agree."""
    pytest.importorskip("spconv.pytorch")
    thread_count(1)
    tensor = random_tensor(13, [9, 20, 20], channels=8, cells=800, dtype=torch.float32)
    network = SparseSequential(
        SubMConv3d(8, 16, 3, indice_key="a"),
        SparseConv3d(16, 16, 3, 2, 1, indice_key="b"),
        SparseInverseConv3d(16, 8, 3, "b"),
        SparseConv3d(8, 4, (3, 1, 1), (2, 1, 1)),
    )
    names = list(network.state_dict())
    expected = network(tensor)
    monkeypatch.setattr(spconv_adapter, "usable", lambda tensor: len(tensor.features) > 0)
    with torch.no_grad():
        found = network(SparseConvTensor(tensor.features, tensor.indices, [9, 20, 20], 2))
    assert torch.equal(found.indices, expected.indices)
    torch.testing.assert_close(found.features, expected.features, rtol=1e-4, atol=1e-5)
    assert list(network.state_dict()) == names
