"""Set abstraction and feature propagation against the reference's computation slot by slot."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from pcdet_distill.errors import ConfigError
from pcdet_distill.models.backbones_3d.pointnet2_backbone import even_frames
from pcdet_distill.models.model_utils import pointnet2_modules as modules
from pcdet_distill.ops import point_sampling


def scattered(seed: int, *shape: int) -> Tensor:
    """Normally distributed numbers that depend on the seed alone."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def plain_layer(layer: nn.Module) -> nn.Module:
    """The layer of torch that does the same on (B, C, M, K)."""
    if isinstance(layer, nn.Conv2d):
        has_bias = layer.bias is not None
        plain: nn.Module = nn.Conv2d(layer.in_channels, layer.out_channels, 1, bias=has_bias)
    elif isinstance(layer, nn.BatchNorm1d):
        plain = nn.BatchNorm2d(layer.num_features)
    else:
        plain = nn.ReLU()
    plain.load_state_dict(layer.state_dict())
    return plain


def plain_layers(mlp: modules.SharedMLP) -> nn.Sequential:
    """The same layers as torch has them, in the same mode."""
    layers = [plain_layer(layer) for layer in mlp]
    return nn.Sequential(*layers).train(mlp.training)


def by_slots(
    layers: nn.Sequential,
    xyz: Tensor,
    features: Tensor | None,
    *,
    centres: Tensor,
    rows: Tensor,
    empty: Tensor | None = None,
) -> Tensor:
    """Every slot of every ball through the layers, the largest value of each ball.

    Args:
        layers: on (B, C, M, K).
        xyz: (B, N, 3).
        features: (B, N, C), or None.
        centres: of the balls, (B, M, 3).
        rows: points in the slots of each ball, (B, M, K).
        empty: balls without a point, (B, M).

    Returns:
        (B, M, C').
    """
    frame = torch.arange(len(xyz)).view(-1, 1, 1)
    grouped = xyz[frame, rows] - centres[:, :, None]
    if features is not None:
        grouped = torch.cat([grouped, features[frame, rows]], dim=3)
    if empty is not None:
        grouped = grouped * ~empty[..., None, None]
    channels_first = grouped.permute(0, 3, 1, 2)
    largest = layers(channels_first).amax(dim=3)
    return largest.transpose(1, 2)


def assert_same_buffers(mlp: modules.SharedMLP, layers: nn.Sequential) -> None:
    """The running statistics of batch norms agree."""
    for ours, theirs in zip(mlp.buffers(), layers.buffers()):
        torch.testing.assert_close(ours, theirs)


def assert_same_gradients(mlp: modules.SharedMLP, layers: nn.Sequential) -> None:
    """The gradients of all weights agree."""
    for ours, theirs in zip(mlp.parameters(), layers.parameters()):
        torch.testing.assert_close(ours.grad, theirs.grad)


# --- Frames with the same number of points, (B, N, C)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("slots, channels", [(4, 5), (4, 0), (40, 5)])
def test_batch_layout_equals_the_computation_by_slots(
    training: bool, slots: int, channels: int
) -> None:
    """Balls with one point, a few and too many; the first layer before and after repetition."""
    torch.manual_seed(0)
    xyz = scattered(0, 2, 60, 3).double()
    features = scattered(1, 2, 60, channels).double().requires_grad_() if channels else None
    plain_features = None if features is None else features.detach().clone().requires_grad_()
    module = modules.PointnetSAModuleMSG(
        20,
        radii=[0.4, 1.5],
        nsamples=[slots, 6],
        mlps=[[channels, 8, 7], [channels, 6]],
    )
    module = module.double().train(training)
    plain_mlps = [plain_layers(mlp).double() for mlp in module.mlps]

    centres, found = module(xyz, features)
    chosen = point_sampling.furthest_point_sample(xyz, 20)
    frame = torch.arange(2)[:, None]
    assert torch.equal(centres, xyz[frame, chosen])

    parts = []
    for radius, count, layers in zip(module.radii, module.nsamples, plain_mlps):
        rows, _ = point_sampling.ball_query(radius, count, xyz, centres)
        parts.append(by_slots(layers, xyz, plain_features, centres=centres, rows=rows))
    expected = torch.cat(parts, dim=2)
    torch.testing.assert_close(found, expected)

    slope = scattered(2, *found.shape).double()
    (found * slope).sum().backward()
    (expected * slope).sum().backward()
    if features is not None and plain_features is not None:
        torch.testing.assert_close(features.grad, plain_features.grad)
    for mlp, layers in zip(module.mlps, plain_mlps):
        assert_same_gradients(mlp, layers)
        assert_same_buffers(mlp, layers)


def test_without_npoint_all_points_are_one_ball_around_the_origin() -> None:
    """Then the positions themselves are the inputs, not offsets."""
    xyz = scattered(3, 2, 9, 3)
    features = scattered(4, 2, 9, 5)
    module = modules.PointnetSAModule([5, 8], npoint=-1, radius=100, nsample=16).eval()
    centres, found = module(xyz, features)

    origin = torch.zeros(2, 1, 3)
    everyone = torch.arange(9).expand(2, 1, 9)
    plain = plain_layers(module.mlps[0])
    expected = by_slots(plain, xyz, features, centres=origin, rows=everyone)
    assert torch.equal(centres, origin)
    torch.testing.assert_close(found, expected)


# --- Frames with any number of points, stacked to (N, C)


@pytest.mark.parametrize("training", [True, False])
def test_stack_layout_has_zeros_for_empty_balls(training: bool) -> None:
    xyz = scattered(5, 50, 3)
    features = scattered(6, 50, 4)
    centres = scattered(7, 12, 3)
    far_away = [2, 11]
    centres[far_away] = 50.0
    module = modules.StackSAModuleMSG(radii=[1.0], nsamples=[8], mlps=[[4, 6, 5]])
    module.train(training)
    plain = plain_layers(module.mlps[0])
    places, got = module(xyz, torch.tensor([30, 20]), centres, torch.tensor([7, 5]), features)
    assert places is centres
    assert module.num_output_features == 5

    rows, counts = point_sampling.stack_ball_query(
        radius_m=1.0,
        num_neighbors=8,
        points=xyz,
        point_counts=[30, 20],
        centres=centres,
        centre_counts=[7, 5],
    )
    empty = counts == 0
    assert empty.nonzero().flatten().tolist() == far_away
    # Rows number the points of both frames, so to by_slots they are one frame.
    expected = by_slots(
        plain,
        xyz[None],
        features[None],
        centres=centres[None],
        rows=rows[None],
        empty=empty[None],
    )
    torch.testing.assert_close(got, expected[0], rtol=1e-4, atol=1e-5)
    assert_same_buffers(module.mlps[0], plain)


@pytest.mark.parametrize("points, centres", [(0, 3), (5, 0), (0, 0)])
def test_stack_layout_without_points_or_centres(points: int, centres: int) -> None:
    module = modules.StackSAModuleMSG(radii=[1.0], nsamples=[8], mlps=[[4, 6]])
    features = torch.ones(points, 4, requires_grad=True)
    xyz = torch.zeros(points, 3)
    new_xyz = torch.zeros(centres, 3)
    _, found = module(xyz, [points], new_xyz, [centres], features)
    assert found.shape == (centres, 6)
    assert torch.isfinite(found).all()
    found.sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


# --- Feature propagation


def test_propagation_by_hand() -> None:
    """At a known place the known features arrive unchanged, in front of the point's own."""
    module = modules.PointnetFPModule([3, 3]).eval()
    identity = torch.eye(3)[:, :, None, None]
    with torch.no_grad():
        module.mlp[0].weight.copy_(identity)
    known = torch.tensor([[[0.0, 0, 0], [9, 0, 0], [0, 9, 0]]])
    known_features = torch.tensor([[[1.0, 2], [3, 4], [7, 7]]])
    unknown = known[:, [1, 0]]
    own_features = torch.tensor([[[5.0], [6.0]]])
    found = module(unknown, known, own_features, known_features)
    expected = torch.tensor([[[3.0, 4, 5], [1, 2, 6]]])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


# --- Layers


def test_state_is_that_of_convolutions() -> None:
    state = modules.SharedMLP([4, 8, 6]).state_dict()
    assert state["0.weight"].shape == (8, 4, 1, 1)
    assert state["3.weight"].shape == (6, 8, 1, 1)
    assert "0.bias" not in state
    assert "1.running_mean" in state


def test_without_batch_norm_convolutions_have_a_bias() -> None:
    state = modules.SharedMLP([4, 8], use_bn=False).state_dict()
    assert list(state) == ["0.weight", "0.bias"]


def test_mixed_precision_keeps_metres() -> None:
    """Places far from the origin are not rounded to centimetres."""
    module = modules.PointnetSAModule([4, 8], npoint=10, radius=1.0, nsample=4).eval()
    xyz = scattered(8, 1, 40, 3) + 60
    features = scattered(9, 1, 40, 4)
    _, expected = module(xyz, features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, found = module(xyz, features.bfloat16())
    torch.testing.assert_close(found.float(), expected, rtol=0.02, atol=0.02)
    assert found.dtype == torch.float32


def test_a_batch_norm_without_weights_gets_the_repeated_rows() -> None:
    """This is what happens with SyncBatchNorm, which knows no weights of rows."""
    module = modules.PointnetSAModule([2, 4], npoint=10, radius=0.8, nsample=6)
    with_plain_norm = copy.deepcopy(module)
    for mlp in with_plain_norm.mlps:
        mlp[1] = nn.BatchNorm1d(4)
        assert not isinstance(mlp[1], modules.WeightedBatchNorm1d)
    xyz = scattered(10, 1, 30, 3)
    features = scattered(11, 1, 30, 2)
    _, expected = module(xyz, features)
    _, found = with_plain_norm(xyz, features)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_an_unknown_pool_method_is_named() -> None:
    with pytest.raises(ConfigError, match="avg_pool"):
        modules.PointnetSAModule([2, 4], pool_method="avg_pool")


# --- Frames of different sizes


def test_uneven_frames_repeat_their_points() -> None:
    # (frame, x, y, z); frame 1 has no point.
    points = torch.tensor([[0.0, 1, 0, 0], [0, 2, 0, 0], [2, 3, 0, 0]])
    even = even_frames(points, 4)
    # Four frames of two points: two of its own, none, one twice, none.
    assert even[..., 0].tolist() == [[0, 0], [1, 1], [2, 2], [3, 3]]
    assert even[..., 1].tolist() == [[1, 2], [0, 0], [3, 3], [0, 0]]


def test_frames_without_any_point_have_one_row_of_zeros() -> None:
    no_points = torch.zeros(0, 4)
    assert even_frames(no_points, 2).shape == (2, 1, 4)
