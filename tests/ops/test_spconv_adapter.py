"""Which library convolves, and the adapter against the interface that spconv and its twin share.

spconv-triton computes on a GPU only. On a CPU a stand-in with its constructors takes its place, and
where the package is installed its own layers are made.
"""

from __future__ import annotations

import types

import pytest
import torch
from torch import Tensor, nn

from pcdet_distill.ops import dispatch, sparse_conv
from pcdet_distill.ops.accelerated import spconv_adapter
from pcdet_distill.ops.accelerated.spconv_adapter import SPCONV, SPCONV_TRITON
from pcdet_distill.ops.sparse_conv import (
    SparseConv3d,
    SparseConvTensor,
    SparseInverseConv3d,
    SparseSequential,
    SubMConv3d,
)

SHAPE = [9, 10, 11]


class OfTwin(SparseConvTensor):
    """A tensor of the library: as strict as spconv-triton's."""

    def __init__(
        self,
        features: Tensor,
        indices: Tensor,
        spatial_shape: list[int],
        batch_size: int,
        grid: Tensor | None = None,
        voxel_num: Tensor | None = None,
        indice_dict: dict | None = None,
    ) -> None:
        assert indices.dtype == torch.int32
        assert indices.is_contiguous()
        assert len(features) > 0
        super().__init__(features, indices, spatial_shape, batch_size, indice_dict)


class StandInLayer(nn.Module):
    """A layer of the library, computed by this package's layer of the same name."""

    def __init__(self, ours: sparse_conv.SparseConvolution) -> None:
        super().__init__()
        # Hidden, so that the weight is this module's own parameter.
        self.__dict__["ours"] = ours
        self.register_parameter("weight", ours.weight)
        self.register_parameter("bias", ours.bias)

    def forward(self, tensor: OfTwin, add_input: OfTwin | None = None) -> SparseConvTensor:
        assert isinstance(tensor, OfTwin)
        assert add_input is None
        self.ours.weight = self.weight
        self.ours.bias = self.bias
        return self.ours.run(tensor)


def stand_in() -> types.ModuleType:
    """A module with the names and constructors of ``spconv_triton.pytorch`` 1.0.0."""

    class OtherSubMConv3d(StandInLayer):
        def __init__(
            self,
            in_channels,
            out_channels,
            kernel_size,
            stride=1,
            padding=0,
            dilation=1,
            groups=1,
            bias=True,
            indice_key=None,
            algo=None,
            fp32_accum=None,
            large_kernel_fast_algo=False,
            name=None,
        ) -> None:
            geometry = (kernel_size, stride, padding, dilation, groups)
            super().__init__(SubMConv3d(in_channels, out_channels, *geometry, bias, indice_key))

    class OtherSparseConv3d(StandInLayer):
        def __init__(
            self,
            in_channels,
            out_channels,
            kernel_size,
            stride=1,
            padding=0,
            dilation=1,
            groups=1,
            bias=True,
            indice_key=None,
            algo=None,
            fp32_accum=None,
            record_voxel_count=False,
            large_kernel_fast_algo=False,
            name=None,
        ) -> None:
            geometry = (kernel_size, stride, padding, dilation, groups)
            super().__init__(SparseConv3d(in_channels, out_channels, *geometry, bias, indice_key))

    class OtherInverseConv3d(StandInLayer):
        def __init__(
            self,
            in_channels,
            out_channels,
            kernel_size,
            indice_key,
            bias=True,
            algo=None,
            fp32_accum=None,
            large_kernel_fast_algo=False,
            name=None,
        ) -> None:
            super().__init__(
                SparseInverseConv3d(in_channels, out_channels, kernel_size, indice_key, bias)
            )

    module = types.ModuleType(SPCONV_TRITON)
    module.SparseConvTensor = OfTwin
    module.SubMConv3d = OtherSubMConv3d
    module.SparseConv3d = OtherSparseConv3d
    module.SparseInverseConv3d = OtherInverseConv3d
    return module


def some_network() -> SparseSequential:
    torch.manual_seed(0)
    return SparseSequential(
        SubMConv3d(4, 8, 3, indice_key="a"),
        SparseConv3d(8, 8, 3, 2, 1, indice_key="b"),
        SparseInverseConv3d(8, 6, 3, "b"),
        SparseConv3d(6, 4, (3, 1, 1), (2, 1, 1), bias=False),
    )


def some_tensor(device: torch.device | str = "cpu") -> SparseConvTensor:
    """Cells of two frames as a view of a wider tensor."""
    generator = torch.Generator().manual_seed(1)
    columns = [torch.randint(0, extent, (90,), generator=generator) for extent in (2, *SHAPE)]
    cells = torch.stack(columns, dim=1).unique(dim=0).int()
    wide = torch.cat([cells, cells], dim=1)
    rows = torch.randn(len(cells), 4, generator=generator)
    return SparseConvTensor(rows.to(device), wide.to(device)[:, :4], SHAPE, 2)


def on_gpu(num_cells: int) -> types.SimpleNamespace:
    """What the choice reads of a tensor on CUDA."""
    features = types.SimpleNamespace(is_cuda=True, device=torch.device("cuda:0"))
    rows = type("Rows", (types.SimpleNamespace,), {"__len__": lambda self: num_cells})
    return types.SimpleNamespace(features=rows(**vars(features)))


@pytest.mark.parametrize(
    ("present", "form", "chosen"),
    [
        ({SPCONV, SPCONV_TRITON}, dispatch.Form.TRITON, SPCONV),
        ({SPCONV}, dispatch.Form.PLAIN, SPCONV),
        ({SPCONV_TRITON}, dispatch.Form.TRITON, SPCONV_TRITON),
        ({SPCONV_TRITON}, dispatch.Form.PLAIN, None),
        (set(), dispatch.Form.TRITON, None),
    ],
)
def test_the_choice(
    present: set[str],
    form: dispatch.Form,
    chosen: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def installed(name: str) -> str | None:
        return name if name in present else None

    monkeypatch.setattr(spconv_adapter, "installed", installed)
    monkeypatch.setattr(spconv_adapter, "form_for", lambda device: form)
    assert spconv_adapter.library_for(on_gpu(5)) == chosen
    assert spconv_adapter.library_for(on_gpu(0)) is None
    assert spconv_adapter.library_for(some_tensor()) is None


def test_a_package_that_is_missing() -> None:
    assert spconv_adapter.installed("no_such_package.pytorch") is None


def test_layers_run_by_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs, gradients and the state dict are those of the layers alone."""
    network = some_network()
    names = list(network.state_dict())

    def run() -> list[Tensor]:
        network.zero_grad()
        output = network(some_tensor())
        output.features.square().sum().backward()
        gradients = [parameter.grad.clone() for parameter in network.parameters()]
        return [output.features.detach(), output.indices, *gradients]

    expected = run()
    library = stand_in()
    monkeypatch.setattr(spconv_adapter, "library_for", lambda tensor: library)
    for _ in range(2):
        for found, other in zip(run(), expected, strict=True):
            torch.testing.assert_close(found, other)
    assert list(network.state_dict()) == names


def test_each_library_has_its_own_twin() -> None:
    layer = SubMConv3d(4, 8, 3)
    first = stand_in()
    second = stand_in()
    second.__name__ = SPCONV
    for library in (first, second):
        spconv_adapter.convolve(library, layer, some_tensor())
    twins = [value for value in vars(layer).values() if isinstance(value, StandInLayer)]
    assert {type(twin) for twin in twins} == {first.SubMConv3d, second.SubMConv3d}


def test_the_layers_of_the_package() -> None:
    """Its own constructors take what the adapter gives, and have the same weights."""
    library = pytest.importorskip(SPCONV_TRITON)
    for layer in some_network():
        twin = spconv_adapter._make_twin(library, layer)
        assert type(twin).__name__ == type(layer).__name__
        assert tuple(twin.kernel_size) == layer.kernel.size
        assert twin.indice_key == layer.indice_key
        assert twin.weight.shape == layer.weight.shape
        twin.register_parameter("bias", layer.bias)
        assert twin.bias is layer.bias
    tensor = some_tensor()
    cells = tensor.indices.contiguous()
    library.SparseConvTensor(tensor.features, cells, SHAPE, 2, indice_dict={})


def test_numbers_of_the_package(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    library = pytest.importorskip(SPCONV_TRITON)
    if device.type == "cpu":
        pytest.skip("spconv-triton computes on a GPU only")
    network = some_network().to(device)
    monkeypatch.setattr(spconv_adapter, "library_for", lambda tensor: None)
    expected = network(some_tensor(device)).dense()
    monkeypatch.setattr(spconv_adapter, "library_for", lambda tensor: library)
    found = network(some_tensor(device)).dense()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
