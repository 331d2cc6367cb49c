"""Set abstraction and feature propagation against the reference's computation slot by slot."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcdet_distill.errors import ConfigError
from pcdet_distill.models.backbones_3d.pointnet2_backbone import even_frames
from pcdet_distill.models.model_utils import pointnet2_modules as modules
from pcdet_distill.ops import point_sampling


def scattered(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def plain_layers(mlp: modules.SharedMLP) -> nn.Sequential:
    """The same layers as torch has them, for (B, C, M, K)."""
    layers: list[nn.Module] = []
    for layer in mlp:
        if isinstance(layer, nn.Conv2d):
            layer_2d: nn.Module = nn.Conv2d(
                layer.in_channels, layer.out_channels, 1, bias=layer.bias is not None
            )
        elif isinstance(layer, nn.BatchNorm1d):
            layer_2d = nn.BatchNorm2d(layer.num_features)
        else:
            layer_2d = nn.ReLU()
        layer_2d.load_state_dict(layer.state_dict())
        layers.append(layer_2d)
    return nn.Sequential(*layers)


def by_slots(
    layers: nn.Sequential,
    xyz: Tensor,
    features: Tensor | None,
    centres: Tensor,
    rows: Tensor,
    empty: Tensor | None = None,
) -> Tensor:
    """(B, M, C'): every slot of every ball through the layers, the largest of each ball."""
    frame = torch.arange(len(xyz)).view(-1, 1, 1)
    grouped = xyz[frame, rows] - centres[:, :, None]
    if features is not None:
        grouped = torch.cat([grouped, features[frame, rows]], dim=3)
    if empty is not None:
        grouped = grouped * ~empty[..., None, None]
    return layers(grouped.permute(0, 3, 1, 2)).amax(dim=3).transpose(1, 2)


def compare_parameters(mlp: modules.SharedMLP, layers: nn.Sequential) -> None:
    for ours, theirs in zip(mlp.parameters(), layers.parameters()):
        torch.testing.assert_close(ours.grad, theirs.grad)
    for ours, theirs in zip(mlp.buffers(), layers.buffers()):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("slots, channels", [(4, 5), (4, 0), (40, 5)])
def test_batch_layout(training: bool, slots: int, channels: int) -> None:
    """Balls with one point, a few and too many; the first layer before and after repetition."""
    torch.manual_seed(0)
    xyz = scattered(0, 2, 60, 3).double()
    features = scattered(1, 2, 60, channels).double().requires_grad_() if channels else None
    module = modules.PointnetSAModuleMSG(
        20, [0.4, 1.5], [slots, 6], [[channels, 8, 7], [channels, 6]]
    ).double()
    plain = [plain_layers(mlp).double().train(training) for mlp in module.train(training).mlps]
    centres, got = module(xyz, features)
    chosen = point_sampling.furthest_point_sample(xyz, 20)
    assert torch.equal(centres, xyz[torch.arange(2)[:, None], chosen])
    layer_2d = None if features is None else features.detach().clone().requires_grad_()
    queries = [
        point_sampling.ball_query(radius, count, xyz, centres)[0]
        for radius, count in zip(module.radii, module.nsamples)
    ]
    expected = torch.cat(
        [by_slots(layers, xyz, layer_2d, centres, rows) for layers, rows in zip(plain, queries)],
        dim=2,
    )
    torch.testing.assert_close(got, expected)
    target = scattered(2, *got.shape).double()
    (got * target).sum().backward()
    (expected * target).sum().backward()
    if features is not None and layer_2d is not None:
        torch.testing.assert_close(features.grad, layer_2d.grad)
    for mlp, layers in zip(module.mlps, plain):
        compare_parameters(mlp, layers)


def test_one_centre_for_all_points() -> None:
    """Without npoint the places themselves are the inputs."""
    xyz = scattered(3, 2, 9, 3)
    features = scattered(4, 2, 9, 5)
    module = modules.PointnetSAModule([5, 8], npoint=-1, radius=100, nsample=16)
    centres, got = module.eval()(xyz, features)
    everyone = torch.arange(9).expand(2, 1, 9)
    expected = by_slots(
        plain_layers(module.mlps[0]).eval(), xyz, features, torch.zeros(2, 1, 3), everyone
    )
    assert centres.tolist() == [[[0, 0, 0]]] * 2
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("training", [True, False])
def test_stack_layout_has_zeros_for_empty_balls(training: bool) -> None:
    xyz = scattered(5, 50, 3)
    features = scattered(6, 50, 4)
    centres = scattered(7, 12, 3)
    centres[[2, 11]] = 50.0
    module = modules.StackSAModuleMSG(radii=[1.0], nsamples=[8], mlps=[[4, 6, 5]]).train(training)
    plain = plain_layers(module.mlps[0]).train(training)
    places, got = module(xyz, torch.tensor([30, 20]), centres, torch.tensor([7, 5]), features)
    rows, found = point_sampling.stack_ball_query(1.0, 8, xyz, [30, 20], centres, [7, 5])
    assert (found == 0).nonzero().flatten().tolist() == [2, 11]
    expected = by_slots(
        plain, xyz[None], features[None], centres[None], rows[None], (found == 0)[None]
    )[0]
    assert places is centres
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert module.num_output_features == 5
    for ours, theirs in zip(module.mlps[0].buffers(), plain.buffers()):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("points, centres", [(0, 3), (5, 0), (0, 0)])
def test_stack_layout_without_points_or_centres(points: int, centres: int) -> None:
    module = modules.StackSAModuleMSG(radii=[1.0], nsamples=[8], mlps=[[4, 6]])
    features = torch.ones(points, 4, requires_grad=True)
    _, got = module(torch.zeros(points, 3), [points], torch.zeros(centres, 3), [centres], features)
    assert got.shape == (centres, 6)
    assert torch.isfinite(got).all()
    got.sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_propagation_by_hand() -> None:
    """At a known place the known features arrive unchanged, in front of the point's own."""
    module = modules.PointnetFPModule([3, 3]).eval()
    with torch.no_grad():
        module.mlp[0].weight.copy_(torch.eye(3)[:, :, None, None])
    known = torch.tensor([[[0.0, 0, 0], [9, 0, 0], [0, 9, 0]]])
    own = torch.tensor([[[5.0], [6.0]]])
    got = module(known[:, [1, 0]], known, own, torch.tensor([[[1.0, 2], [3, 4], [7, 7]]]))
    torch.testing.assert_close(got, torch.tensor([[[3.0, 4, 5], [1, 2, 6]]]), rtol=1e-4, atol=1e-4)


def test_state_is_that_of_convolutions() -> None:
    state = modules.SharedMLP([4, 8, 6]).state_dict()
    assert state["0.weight"].shape == (8, 4, 1, 1)
    assert state["3.weight"].shape == (6, 8, 1, 1)
    assert "0.bias" not in state
    assert "1.running_mean" in state
    assert list(modules.SharedMLP([4, 8], use_bn=False).state_dict()) == ["0.weight", "0.bias"]


def test_mixed_precision_keeps_metres() -> None:
    """Places far from the origin are not rounded to centimetres."""
    module = modules.PointnetSAModule([4, 8], npoint=10, radius=1.0, nsample=4).eval()
    xyz = scattered(8, 1, 40, 3) + 60
    features = scattered(9, 1, 40, 4)
    expected = module(xyz, features)[1]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = module(xyz, features.bfloat16())[1]
    torch.testing.assert_close(got.float(), expected, rtol=0.02, atol=0.02)
    assert got.dtype == torch.float32


def test_sync_batch_norm_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch norm without weights gets the repeated rows."""
    module = modules.PointnetSAModule([2, 4], npoint=10, radius=0.8, nsample=6)
    other = copy.deepcopy(module)
    for mlp in other.mlps:
        mlp[1] = plain_norm = nn.BatchNorm1d(4)
        assert not isinstance(plain_norm, modules.WeightedBatchNorm1d)
    xyz = scattered(10, 1, 30, 3)
    features = scattered(11, 1, 30, 2)
    torch.testing.assert_close(
        module(xyz, features)[1], other(xyz, features)[1], rtol=1e-4, atol=1e-5
    )


def test_unknown_pool_method() -> None:
    with pytest.raises(ConfigError, match="avg_pool"):
        modules.PointnetSAModule([2, 4], pool_method="avg_pool")


def test_uneven_frames_repeat_their_points() -> None:
    points = F.pad(torch.arange(1.0, 4).view(3, 1), (1, 2))
    points[:, 0] = torch.tensor([0.0, 0, 2])
    even = even_frames(points, 4)
    assert even[..., 0].tolist() == [[0, 0], [1, 1], [2, 2], [3, 3]]
    assert even[..., 1].tolist() == [[1, 2], [0, 0], [3, 3], [0, 0]]
    assert even_frames(points[:0], 2).shape == (2, 1, 4)
