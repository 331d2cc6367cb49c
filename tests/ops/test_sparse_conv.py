"""Sparse convolution against dense convolution, plain rulebooks, finite differences and spconv."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from unittest import mock

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
    columns = []
    for extent in (batch_size, *shape):
        columns.append(torch.randint(0, extent, (cells,), generator=generator))
    indices = torch.stack(columns, dim=1).unique(dim=0)
    indices = indices[torch.randperm(len(indices), generator=generator)]
    features = torch.randn(len(indices), channels, generator=generator, dtype=dtype)
    return SparseConvTensor(features.requires_grad_(), indices, shape, batch_size)


def active(tensor: SparseConvTensor) -> Tensor:
    """1 at the active cells of the dense grid (B, 1, ...)."""
    ones = torch.ones(len(tensor.indices), 1, dtype=torch.float64)
    return tensor.replace_feature(ones).dense()


def dense_weight(layer: nn.Module) -> Tensor:
    """(out, ..., in) as torch's (out, in, ...)."""
    return layer.weight.movedim(-1, 1)


@dataclasses.dataclass
class Case:
    """A grid with random active cells, a kernel, and the number of threads."""

    shape: list[int]
    kernel_size: list[int]
    stride: list[int]
    padding: list[int]
    dilation: list[int]
    cells: int
    seed: int
    threads: int

    @property
    def tensor(self) -> SparseConvTensor:
        return random_tensor(self.seed, self.shape, cells=self.cells)

    @property
    def geometry(self) -> dict[str, list[int]]:
        """The arguments that sparse and dense convolutions have in common."""
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}

    @property
    def odd_kernel_size(self) -> list[int]:
        """1 becomes 1; 2 and 3 become 3."""
        return [2 * (size // 2) + 1 for size in self.kernel_size]

    def kernel(self, size: list[int]) -> Kernel:
        return Kernel(tuple(size), tuple(self.stride), tuple(self.padding), tuple(self.dilation))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    axes = draw(st.sampled_from([2, 3]))

    def one_for_each_axis(least: int, most: int) -> list[int]:
        return draw(st.lists(st.integers(least, most), min_size=axes, max_size=axes))

    kernel_size = one_for_each_axis(1, 3)
    dilation = one_for_each_axis(1, 2)
    shape = []
    for size, step in zip(kernel_size, dilation):
        cells_of_kernel = step * (size - 1) + 1
        shape.append(draw(st.integers(cells_of_kernel, 8)))
    return Case(
        shape=shape,
        kernel_size=kernel_size,
        stride=one_for_each_axis(1, 3),
        padding=one_for_each_axis(0, 2),
        dilation=dilation,
        cells=draw(st.integers(1, 80)),
        seed=draw(st.integers(0, 2**16)),
        threads=draw(st.sampled_from([1, 2, 3, 5])),
    )


@contextlib.contextmanager
def with_threads(count: int) -> Iterator[None]:
    """Set the number of threads, and restore it afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_against_dense(
    found: SparseConvTensor, expected: Tensor, tensor: SparseConvTensor, layer: nn.Module
) -> None:
    """Values, and gradients of features and weight, at the active cells of ``found``."""
    found_dense = found.dense()
    expected = expected * active(found)
    assert found_dense.shape == expected.shape
    torch.testing.assert_close(found_dense, expected)
    generator = torch.Generator().manual_seed(1)
    upstream = torch.randn(expected.shape, dtype=torch.float64, generator=generator)
    inputs = (tensor.features, layer.weight)
    found_gradients = torch.autograd.grad(found_dense, inputs, upstream, retain_graph=True)
    expected_gradients = torch.autograd.grad(expected, inputs, upstream, retain_graph=True)
    for found_gradient, expected_gradient in zip(found_gradients, expected_gradients):
        torch.testing.assert_close(found_gradient, expected_gradient)


@settings(max_examples=60, deadline=None)
@given(cases())
def test_strided_and_inverse_equal_dense_convolution(case: Case) -> None:
    _, strided_class, inverse_class, dense_convolution = LAYERS[len(case.shape)]
    geometry = case.geometry
    tensor = case.tensor
    down = strided_class(3, 4, case.kernel_size, bias=False, indice_key="down", **geometry)
    down = down.double()
    up = inverse_class(4, 5, case.kernel_size, bias=False, indice_key="down").double()
    with with_threads(case.threads):
        found = down(tensor)
        expected = dense_convolution(tensor.dense(), dense_weight(down), **geometry)
        check_against_dense(found, expected, tensor, down)

        # Active are the cells whose kernel meets an active cell.
        kernel_of_ones = torch.ones(1, 1, *case.kernel_size, dtype=torch.float64)
        reached = dense_convolution(active(tensor), kernel_of_ones, **geometry)
        assert torch.equal(active(found) > 0, reached > 0)

        restored = up(found)
        assert torch.equal(restored.indices, tensor.indices)
        assert restored.spatial_shape == tensor.spatial_shape
        # The transpose of a convolution is what its gradient does.
        canvas = torch.zeros(2, 5, *case.shape, dtype=torch.float64, requires_grad=True)
        forward = dense_convolution(canvas, up.weight.movedim(-1, 0), **geometry)
        (transposed,) = torch.autograd.grad(forward, canvas, found.dense(), create_graph=True)
        check_against_dense(restored, transposed, tensor, up)


@settings(max_examples=40, deadline=None)
@given(cases())
def test_submanifold_equals_dense_convolution(case: Case) -> None:
    submanifold_class, _, _, dense_convolution = LAYERS[len(case.shape)]
    size = case.odd_kernel_size
    tensor = case.tensor
    layer = submanifold_class(3, 4, size, dilation=case.dilation, bias=False).double()
    # With this padding the output has the cells of the input.
    padding = [extent // 2 * step for extent, step in zip(size, case.dilation)]
    with with_threads(case.threads):
        found = layer(tensor)
        assert torch.equal(found.indices, tensor.indices)
        expected = dense_convolution(
            tensor.dense(), dense_weight(layer), padding=padding, dilation=case.dilation
        )
        check_against_dense(found, expected, tensor, layer)


@settings(max_examples=40, deadline=None)
@given(cases())
def test_compiled_strided_rulebooks_equal_plain_ones(case: Case) -> None:
    indices = case.tensor.indices
    kernel = case.kernel(case.kernel_size)
    compiled, cells = rulebook_module.strided_rulebook(indices, case.shape, kernel)
    plain, plain_cells = strided_rulebook_plain(indices, case.shape, kernel)
    assert_same_rulebook(compiled, plain)
    assert torch.equal(cells, plain_cells)
    assert cells.dtype == torch.int32
    assert plain_cells.dtype == torch.int32


@settings(max_examples=40, deadline=None)
@given(cases())
def test_compiled_submanifold_rulebooks_equal_plain_ones(case: Case) -> None:
    indices = case.tensor.indices
    kernel = case.kernel(case.odd_kernel_size)
    compiled = rulebook_module.submanifold_rulebook(indices, case.shape, kernel)
    plain = submanifold_rulebook_plain(indices, case.shape, kernel)
    assert_same_rulebook(compiled, plain)


def assert_same_rulebook(one: rulebook_module.Rulebook, other: rulebook_module.Rulebook) -> None:
    assert torch.equal(one.in_rows, other.in_rows)
    assert torch.equal(one.out_rows, other.out_rows)
    assert one.counts == other.counts
    assert one.num_in == other.num_in
    assert one.num_out == other.num_out
    assert one.identity == other.identity


def test_new_cells_are_numbered_as_they_are_met() -> None:
    """By offset first, then by input row: the order that OpenPCDet's ball queries see."""
    cells = torch.tensor([[0, 0, 3], [0, 0, 0]])  # x = 3, then x = 0, of a grid of 1 x 4 cells
    tensor = SparseConvTensor(torch.ones(2, 1), cells, [1, 4], 1)
    layer = SparseConv2d(1, 1, (1, 3), stride=1, padding=(0, 1), bias=False)
    # Offset 0 reaches x + 1: 4, which is outside, and 1.
    # Offset 1 reaches x: 3 and 0.
    # Offset 2 reaches x - 1: 2 and -1, which is outside.
    x_of_cells = layer(tensor).indices[:, 2]
    assert x_of_cells.tolist() == [1, 3, 0, 2]


@pytest.mark.parametrize("kind", ["submanifold", "strided", "inverse"])
def test_gradients_by_finite_differences(kind: str) -> None:
    tensor = random_tensor(3, [4, 5, 6], channels=2, cells=15)
    down = SparseConv3d(2, 2, 3, 2, 1, indice_key="down").double()
    layers = {
        "submanifold": SubMConv3d(2, 3, 3),
        "strided": SparseConv3d(2, 3, (3, 1, 1), (2, 1, 1)),
        "inverse": SparseInverseConv3d(2, 3, 3, "down"),
    }
    layer = layers[kind].double()

    def run(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        inputs = tensor.replace_feature(features)
        if kind == "inverse":
            inputs = down(inputs)
        parameters = {"weight": weight, "bias": bias}
        return torch.func.functional_call(layer, parameters, (inputs,)).features

    assert torch.autograd.gradcheck(run, (tensor.features, layer.weight, layer.bias))


@pytest.mark.parametrize("threads", [1, 2])
def test_every_run_gives_the_same_bits(threads: int) -> None:
    tensor = random_tensor(0, [10, 60, 60], channels=16, cells=6000, dtype=torch.float32)
    network = SparseSequential(
        SubMConv3d(16, 32, 3, indice_key="a"),
        SparseConv3d(32, 32, 3, 2, 1, indice_key="b"),
        SparseInverseConv3d(32, 16, 3, "b"),
    )

    def run() -> list[Tensor]:
        """The output and all gradients."""
        network.zero_grad()
        features = tensor.features.detach().requires_grad_()
        inputs = SparseConvTensor(features, tensor.indices, [10, 60, 60], 2)
        output = network(inputs).features
        output.square().sum().backward()
        gradients = [parameter.grad.clone() for parameter in network.parameters()]
        return [output.detach(), features.grad, *gradients]

    with with_threads(threads):
        first = run()
        for _ in range(2):
            for expected, again in zip(first, run()):
                assert torch.equal(expected, again)


def test_frames_never_mix() -> None:
    tensor = random_tensor(5, [4, 6, 6], batch_size=3, cells=150)
    layer = SparseConv3d(3, 4, 3, 2, 1).double()
    together = layer(tensor).dense()
    for frame in range(3):
        rows = tensor.indices[:, 0] == frame
        indices = tensor.indices[rows].clone()
        indices[:, 0] = 0
        only_this_frame = SparseConvTensor(tensor.features[rows], indices, [4, 6, 6], 1)
        alone = layer(only_this_frame).dense()
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
    features = torch.zeros(0, 3, dtype=torch.float64, requires_grad=True)
    indices = torch.zeros(0, 4, dtype=torch.int32)
    found = layer(SparseConvTensor(features, indices, [4, 4, 4], 2))
    assert found.features.shape == (0, 4)
    assert len(found.dense()) == 2
    found.features.sum().backward()
    assert features.grad.shape == (0, 3)
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
    weight_of_the_middle = layer.weight[0, 1, 1, 1, 0].item()
    assert layer(tensor).features.item() == pytest.approx(2 * weight_of_the_middle)
    dense = SparseConv3d(1, 1, 3, 2, 1, bias=False)(tensor).dense()
    assert dense.shape == (2, 1, 2, 2, 2)
    last_frame = dense[1]
    assert (last_frame == 0).all()


def test_rulebooks_are_shared_by_key(monkeypatch) -> None:
    """Four layers need three: of key a, of key b, and one that is not kept."""
    build = mock.Mock(side_effect=sparse_conv.submanifold_rulebook)
    monkeypatch.setattr(sparse_conv, "submanifold_rulebook", build)
    tensor = random_tensor(8, [5, 5, 5])
    network = SparseSequential(
        SubMConv3d(3, 4, 3, indice_key="a"),
        SubMConv3d(4, 5, 3, indice_key="a"),
        nn.ReLU(),
        SubMConv3d(5, 5, 3, indice_key="b"),
        SubMConv3d(5, 5, 3),
    )
    network.double()(tensor)
    assert build.call_count == 3
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
    """There the output channels come last."""
    tensor = random_tensor(10, [5, 5, 5])
    layer = SubMConv3d(3, 4, 3).double()
    other = SubMConv3d(3, 4, 3).double()
    old_weight = layer.weight.detach().permute(1, 2, 3, 4, 0).contiguous()
    old_state = {"weight": old_weight, "bias": layer.bias.detach()}
    load_model_state(other, old_state, strict=True, where="old.pth")
    assert torch.equal(other(tensor).features, layer(tensor).features)


def test_weights_of_another_width_are_not_converted() -> None:
    layer = SubMConv3d(3, 4, 3).double()
    wide_state = {"weight": torch.zeros(3, 3, 3, 3, 5), "bias": layer.bias.detach()}
    words = r"weight \(3, 3, 3, 3, 5\), model \(4, 3, 3, 3, 3\)"
    with pytest.raises(CheckpointError, match=words):
        load_model_state(layer, wide_state, strict=True, where="old.pth")


def test_sequential_runs_ordinary_modules_on_the_rows() -> None:
    tensor = random_tensor(11, [4, 4], cells=10, channels=2)
    layer = SubMConv2d(2, 3, 3).double()
    norm = nn.BatchNorm1d(3).double()
    found = SparseSequential(layer, norm, nn.ReLU())(tensor)
    rows = layer(tensor).features
    normalised = F.batch_norm(rows, None, None, norm.weight, norm.bias, training=True)
    torch.testing.assert_close(found.features, torch.relu(normalised))
    assert found.indices is tensor.indices
    assert found.indice_dict is tensor.indice_dict


def test_dense_places_features() -> None:
    """Frame 1 has features 1 and 2 at y = 0, x = 2; frame 0 has 3 and 4 at y = 1, x = 0."""
    features = torch.tensor([[1.0, 2], [3, 4]])
    indices = torch.tensor([[1, 0, 2], [0, 1, 0]])
    tensor = SparseConvTensor(features, indices, [2, 3], 2)
    canvas = tensor.dense()
    assert canvas.shape == (2, 2, 2, 3)
    assert canvas[1, :, 0, 2].tolist() == [1, 2]
    assert canvas[0, :, 1, 0].tolist() == [3, 4]
    assert canvas.sum() == 10
    assert torch.equal(tensor.dense(channels_first=False), canvas.permute(0, 2, 3, 1))
    assert "2 cells x 2 channels" in repr(tensor)


@pytest.mark.parametrize("with_spconv", [False, True])
def test_devices_agree_with_the_cpu(
    device: torch.device, monkeypatch: pytest.MonkeyPatch, with_spconv: bool
) -> None:
    """With ``--device cuda`` both the package's own way and spconv, where it is installed."""
    if not with_spconv:
        monkeypatch.setattr(spconv_adapter, "library_for", lambda tensor: None)
    tensor = random_tensor(12, [9, 20, 20], channels=8, cells=800, dtype=torch.float32)
    network = SparseSequential(
        SubMConv3d(8, 16, 3, indice_key="a"),
        SparseConv3d(16, 16, 3, 2, 1, indice_key="b"),
        SparseInverseConv3d(16, 8, 3, "b"),
    )
    expected = network(tensor).dense()
    features = tensor.features.to(device)
    indices = tensor.indices.to(device)
    found = network.to(device)(SparseConvTensor(features, indices, [9, 20, 20], 2)).dense()
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-4)


def test_spconv_runs_our_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU with one thread, where spconv is right, numbers and order of rows agree."""
    library = pytest.importorskip("spconv.pytorch")
    tensor = random_tensor(13, [9, 20, 20], channels=8, cells=800, dtype=torch.float32)
    network = SparseSequential(
        SubMConv3d(8, 16, 3, indice_key="a"),
        SparseConv3d(16, 16, 3, 2, 1, indice_key="b"),
        SparseInverseConv3d(16, 8, 3, "b"),
        SparseConv3d(8, 4, (3, 1, 1), (2, 1, 1)),
    )
    names = list(network.state_dict())
    again = SparseConvTensor(tensor.features, tensor.indices, [9, 20, 20], 2)
    with with_threads(1), torch.no_grad():
        expected = network(tensor)
        monkeypatch.setattr(spconv_adapter, "library_for", lambda tensor: library)
        found = network(again)
    assert torch.equal(found.indices, expected.indices)
    torch.testing.assert_close(found.features, expected.features, rtol=1e-4, atol=1e-5)
    assert list(network.state_dict()) == names
