"""INIT_STUDENT: RECONSTRUCT. Patches of every kind of layer, the regression, the gain by it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from short_training import losses_of_a_few_steps
from small_model import make_batch, model_config, random_scene, small_model
from small_second import second_batch, second_config, small_second
from torch import nn

from pcdet_distill.config import load_config
from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.distill.init import InitOptions, init_student
from pcdet_distill.distill.init.layers import (
    Features,
    Layer,
    as_layer,
    feature_tensor,
    run_detector,
)
from pcdet_distill.distill.init.patches import (
    place_grid,
    places_of_rows,
    read_patches,
    read_targets,
    weight_from_map,
)
from pcdet_distill.distill.init.reconstruct import ridge_regression
from pcdet_distill.distill.init.topology import find_narrower_layers
from pcdet_distill.errors import ConfigError
from pcdet_distill.models import Detector3DTemplate, build_network
from pcdet_distill.models.eval_mode import evaluating
from pcdet_distill.models.model_utils.pointnet2_modules import RowConv2d
from pcdet_distill.ops.sparse_conv import (
    SparseConv2d,
    SparseConv3d,
    SparseConvTensor,
    SparseInverseConv3d,
    SubMConv2d,
    SubMConv3d,
)


def layer_of(module: nn.Module) -> Layer:
    layer = as_layer("layer", module)
    assert layer is not None
    return layer


def random_sparse_tensor(
    channels: int, shape: tuple[int, ...], cells: int = 30
) -> SparseConvTensor:
    """Two frames with ``cells`` active cells in all."""
    generator = torch.Generator().manual_seed(1)
    numbers = torch.randperm(2 * int(np.prod(shape)), generator=generator)[:cells].numpy()
    coords = np.stack(np.unravel_index(numbers, (2, *shape)), axis=1)
    indices = torch.from_numpy(coords).int()
    features = torch.randn(cells, channels, generator=generator)
    return SparseConvTensor(features, indices, shape, batch_size=2)


def with_reversed_rows(value: Features) -> Features:
    """The same sparse tensor with its cells in another order; a dense one unchanged."""
    if isinstance(value, torch.Tensor):
        return value
    features = value.features.flip(0)
    return SparseConvTensor(features, value.indices.flip(0), value.spatial_shape, value.batch_size)


MAP = torch.randn(2, 3, 7, 6, generator=torch.Generator().manual_seed(0))
VOXELS = random_sparse_tensor(3, (4, 5, 6))
PILLARS = random_sparse_tensor(3, (5, 6))
KINDS: dict[str, tuple[Callable[[], nn.Module], Features]] = {
    "linear": (lambda: nn.Linear(3, 4, bias=False), torch.randn(20, 3)),
    "rows": (lambda: RowConv2d(3, 4, bias=False), torch.randn(20, 3)),
    "conv1d": (lambda: nn.Conv1d(3, 4, 1, bias=False), torch.randn(2, 3, 9)),
    "conv 1x1": (lambda: nn.Conv2d(3, 4, 1, bias=False), MAP),
    "conv 3x3": (lambda: nn.Conv2d(3, 4, 3, padding=1, bias=False), MAP),
    "strided": (lambda: nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False), MAP),
    "dilated": (
        lambda: nn.Conv2d(3, 4, (3, 2), stride=(1, 2), padding=(2, 0), dilation=(2, 1), bias=False),
        MAP,
    ),
    "1x1 strided": (lambda: nn.Conv2d(3, 4, 1, stride=2, bias=False), MAP),
    "up": (lambda: nn.ConvTranspose2d(3, 4, 2, stride=2, bias=False), MAP),
    "up, uneven": (lambda: nn.ConvTranspose2d(3, 4, (1, 3), stride=(1, 3), bias=False), MAP),
    "up by one": (lambda: nn.ConvTranspose2d(3, 4, 1, bias=False), MAP),
    "submanifold": (lambda: SubMConv3d(3, 4, 3, bias=False), VOXELS),
    "submanifold 2d": (lambda: SubMConv2d(3, 4, 3, bias=False), PILLARS),
    "sparse strided": (
        lambda: SparseConv3d(3, 4, 3, stride=2, padding=(0, 1, 1), bias=False),
        VOXELS,
    ),
    "sparse strided 2d": (
        lambda: SparseConv2d(3, 4, 3, stride=2, padding=1, bias=False),
        PILLARS,
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_patches_times_weight_are_the_output(kind: str) -> None:
    """Also when the student lists its sparse cells in another order than the teacher."""
    make_module, value = KINDS[kind]
    layer = layer_of(make_module())
    with torch.no_grad():
        output = layer.module(value)
        grid = place_grid(layer, value, output)
        rows = torch.randperm(layer.as_rows(grid).shape[0])[:11]
        targets = read_targets(layer, output, rows, torch.tensor([0, 2]))
        student_value = with_reversed_rows(value)
        output_shape = feature_tensor(output).shape
        patches = read_patches(layer, student_value, output_shape, places_of_rows(grid, rows))
        outputs = patches @ matrix_of(layer)
    blocks = outputs.unflatten(1, (4, -1))  # (S, channels, cells of a block)
    picked = blocks[:, [0, 2]].flatten(1)
    torch.testing.assert_close(picked, targets, rtol=1e-4, atol=1e-5)
    assert torch.equal(weight_from_map(layer, matrix_of(layer)), layer.module.weight)
    identity = torch.eye(patches.shape[1])
    fit = ridge_regression(identity, identity, with_constant=False)
    assert fit.r_squared > 0.99
    assert fit.linear_map.shape == identity.shape


def matrix_of(layer: Layer) -> torch.Tensor:
    """The linear map (D, outputs) of a layer: ``weight_from_map`` backwards, element by element."""
    weight = layer.module.weight.detach()
    is_transposed = isinstance(layer.module, nn.ConvTranspose2d)
    numbers = torch.arange(weight.numel(), dtype=torch.float64).reshape(weight.shape[0], -1)
    numbered_map = numbers if is_transposed else numbers.T
    places = weight_from_map(layer, numbered_map).flatten().long()
    values = torch.empty(weight.numel()).scatter(0, places, weight.flatten())
    matrix = values.reshape(weight.shape[0], -1)
    return matrix if is_transposed else matrix.T


def test_patches_of_an_inverse_convolution() -> None:
    value = random_sparse_tensor(3, (4, 5, 6))
    down = SparseConv3d(3, 3, 3, stride=2, padding=1, bias=False, indice_key="down")
    layer = layer_of(SparseInverseConv3d(3, 4, 3, indice_key="down", bias=False))
    with torch.no_grad():
        coarse = down(value)
        output = layer.module(coarse)
        rows = torch.arange(len(output.features))
        places = places_of_rows(output, rows)
        patches = read_patches(layer, coarse, output.features.shape, places)
    torch.testing.assert_close(patches @ matrix_of(layer), output.features, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "module, value, words",
    [
        (
            nn.Conv3d(3, 4, 3),
            torch.zeros(1, 3, 3, 3, 3),
            "cannot read the patches of layer (Conv3d, kernel (3, 3, 3))",
        ),
        (
            nn.ConvTranspose2d(3, 4, 3, stride=2),
            MAP,
            "layer has kernel (3, 3) and stride (2, 2); use SLICE",
        ),
    ],
)
def test_layers_whose_patches_cannot_be_read(
    module: nn.Module, value: torch.Tensor, words: str
) -> None:
    layer = layer_of(module)
    with torch.no_grad(), pytest.raises(ConfigError) as caught:
        output = module(value)
        read_patches(layer, value, output.shape, torch.arange(1))
    assert words in str(caught.value)


@pytest.mark.parametrize("samples, inputs", [(60, 8), (20, 50)])
@pytest.mark.parametrize("with_constant", [True, False])
def test_ridge_regression_against_numpy(samples: int, inputs: int, with_constant: bool) -> None:
    """A penalty is the same as further rows with target zero; the constant has no penalty."""
    random = np.random.RandomState(0)
    x = random.randn(samples, inputs) + 1
    y = random.randn(samples, 3) + 2
    x_mean = x.mean(axis=0) * with_constant
    y_mean = y.mean(axis=0) * with_constant
    penalty = 1e-3 * ((x - x_mean) ** 2).sum() / inputs
    longer_x = np.concatenate([x - x_mean, np.sqrt(penalty) * np.eye(inputs)])
    longer_y = np.concatenate([y - y_mean, np.zeros((inputs, 3))])
    expected = np.linalg.lstsq(longer_x, longer_y, rcond=None)[0]
    fit = ridge_regression(torch.from_numpy(x), torch.from_numpy(y), with_constant)
    np.testing.assert_allclose(fit.linear_map, expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(fit.constant, y_mean - x_mean @ expected, rtol=1e-6, atol=1e-9)
    residual = (((y - y_mean) - (x - x_mean) @ expected) ** 2).sum()
    assert fit.r_squared == pytest.approx(1 - residual / ((y - y_mean) ** 2).sum())


@pytest.fixture(scope="module")
def trained() -> Detector3DTemplate:
    """A small PointPillar after sixty steps of training."""
    teacher = small_model(model_config(16)).train()
    for seed in range(0, 8, 2):
        losses_of_a_few_steps(
            teacher, make_batch([random_scene(seed), random_scene(seed + 1)]), steps=15
        )
    return teacher.eval()


def student_error(
    teacher: Detector3DTemplate, mode: str, select: str = "magnitude", seed: int = 0
) -> float:
    """Mean squared difference of class logits on new frames, for a student of half the width."""
    student = small_model(model_config(8), seed=1)
    frames = [make_batch([random_scene(seed)]) for seed in range(4)]
    init_student(teacher, student, frames, InitOptions(mode, select=select, seed=seed))
    held_out = make_batch([random_scene(seed) for seed in range(100, 104)])
    with evaluating(student):
        student_logits = run_detector(student, held_out)["batch_cls_preds"]
        teacher_logits = run_detector(teacher, held_out)["batch_cls_preds"]
    return float((student_logits - teacher_logits).square().mean())


def test_selected_channels_beat_random_ones_and_fitted_weights_beat_both(
    trained: Detector3DTemplate,
) -> None:
    selected = student_error(trained, "SLICE")
    random = [student_error(trained, "SLICE", "random", seed) for seed in range(5)]
    fitted = student_error(trained, "RECONSTRUCT")
    assert fitted < 0.5 * selected < selected < np.mean(random)


def test_repeated_channels_can_be_dropped_without_loss() -> None:
    """In this teacher every second channel repeats its neighbour."""
    teacher = small_second(second_config())
    student_config = second_config()
    student_config.BACKBONE_3D.NUM_FILTERS = [4, 6, 8, 8, 6]
    student_config.MAP_TO_BEV.NUM_BEV_FEATURES = 12
    student = small_second(student_config, seed=1)
    batches = [second_batch([random_scene(seed), random_scene(seed + 1)]) for seed in (0, 2)]
    with torch.no_grad():
        weight = teacher.backbone_3d.conv_out[0].weight
        weight[1::2] = weight[::2]
        # Norms take over the statistics of these frames.
        teacher.train().apply(lambda module: setattr(module, "momentum", 1.0))
        run_detector(teacher, batches[0])
    init_student(teacher, student, batches, InitOptions("RECONSTRUCT", select="qr"))
    with evaluating(teacher), evaluating(student):
        expected = run_detector(teacher, batches[0])["batch_cls_preds"]
        predicted = run_detector(student, batches[0])["batch_cls_preds"]
    spread = expected.std(dim=1).mean()
    assert (predicted - expected).abs().mean() < 0.05 * spread


@pytest.mark.parametrize(
    "name",
    [
        "kitti_distill/pointpillar_4x_init",
        "kitti_distill/pointpillar_16x_init",
        "kitti_distill/second_4x_init",
        "kitti_distill/second_16x_init",
        "kitti_distill/pointrcnn_4x_init",
        "kitti_distill/pointrcnn_8x_init",
        "kitti_distill/pointrcnn_16x_init",
        "synthetic/pointpillar_student_init",
    ],
)
def test_the_students_of_the_project_are_narrower_teachers(repo: Path, name: str) -> None:
    cfg = load_config(repo / f"cfgs/{name}.yaml")
    assert InitOptions.from_config(cfg.DISTILL.INIT_STUDENT).mode == "SLICE"
    assert not cfg.DISTILL.TERMS
    plain = load_config(repo / f"cfgs/{name.removesuffix('_init')}.yaml")
    for block in ("MODEL", "OPTIMIZATION", "DATA_CONFIG"):
        assert cfg[block] == plain[block]
    teacher_cfg = load_config(repo / cfg.DISTILL.TEACHER.CFG_FILE)
    models = []
    for config in (teacher_cfg, cfg):
        spec = DataSpec.from_config(config.DATA_CONFIG, config.CLASS_NAMES)
        models.append(build_network(config.MODEL, 3, spec))
    assert len(find_narrower_layers(*models)) >= 12
