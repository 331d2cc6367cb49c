"""RECONSTRUCT: patches of every kind of layer, least squares; what choice and fit are worth on a trained detector."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

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
from pcdet_distill.distill.init.calibration import Interest, draw
from pcdet_distill.distill.init.layers import Layer, as_layer, features_of, in_eval, run
from pcdet_distill.distill.init.patches import (
    at_rows,
    patches,
    place_of,
    targets,
    weight_of,
)
from pcdet_distill.distill.init.reconstruct import ridge
from pcdet_distill.distill.init.selection import select
from pcdet_distill.distill.init.topology import narrower_layers
from pcdet_distill.errors import ConfigError
from pcdet_distill.models import build_network
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


def sparse(channels: int, shape: tuple[int, ...], cells: int = 30) -> SparseConvTensor:
    generator = torch.Generator().manual_seed(1)
    places = torch.randperm(2 * int(np.prod(shape)), generator=generator)[:cells].numpy()
    indices = torch.from_numpy(np.stack(np.unravel_index(places, (2, *shape)), axis=1)).int()
    return SparseConvTensor(torch.randn(cells, channels, generator=generator), indices, shape, 2)


def reversed_rows(value: Any) -> Any:
    """The same sparse tensor with its cells in another order."""
    if features_of(value) is value:
        return value
    return SparseConvTensor(
        value.features.flip(0), value.indices.flip(0), value.spatial_shape, value.batch_size
    )


MAP = torch.randn(2, 3, 7, 6, generator=torch.Generator().manual_seed(0))
KINDS: dict[str, tuple[Callable[[], nn.Module], Any]] = {
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
    "submanifold": (lambda: SubMConv3d(3, 4, 3, bias=False), sparse(3, (4, 5, 6))),
    "submanifold 2d": (lambda: SubMConv2d(3, 4, 3, bias=False), sparse(3, (5, 6))),
    "sparse strided": (
        lambda: SparseConv3d(3, 4, 3, stride=2, padding=(0, 1, 1), bias=False),
        sparse(3, (4, 5, 6)),
    ),
    "sparse strided 2d": (
        lambda: SparseConv2d(3, 4, 3, stride=2, padding=1, bias=False),
        sparse(3, (5, 6)),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_patches_times_weight_are_the_output(kind):
    """Also when the student lists the sparse cells in another order than the teacher did."""
    make, value = KINDS[kind]
    layer = layer_of(make())
    with torch.no_grad():
        output = layer.module(value)
        base = place_of(layer, value, output)
        rows = torch.randperm(layer.rows(base).shape[0])[:11]
        answer = targets(layer, output, rows, torch.tensor([0, 2]))
        seen = patches(
            layer, reversed_rows(value), features_of(output).shape, at_rows(layer, base, rows)
        )
        solution, _, explained = ridge(
            torch.eye(seen.shape[1]), torch.eye(seen.shape[1]), with_constant=False
        )
        assert explained > 0.99 and solution.shape == (seen.shape[1], seen.shape[1])
        by_hand = seen @ matrix_of(layer)
    columns = [0, 2] if answer.shape[1] == 2 else None
    picked = by_hand[:, columns] if columns else by_hand.unflatten(1, (4, -1))[:, [0, 2]].flatten(1)
    torch.testing.assert_close(picked, answer, rtol=1e-4, atol=1e-5)
    assert torch.equal(weight_of(layer, matrix_of(layer)), layer.module.weight)


def matrix_of(layer: Layer) -> torch.Tensor:
    """The linear map (D, outputs) of a layer, by inverting ``weight_of``."""
    weight = layer.module.weight.detach()
    numbers = torch.arange(weight.numel(), dtype=torch.float64)
    shape = (weight.shape[0], -1)
    wide = (
        numbers.reshape(shape)
        if isinstance(layer.module, nn.ConvTranspose2d)
        else numbers.reshape(shape).T
    )
    places = weight_of(layer, wide).flatten().long()
    return (
        torch.empty(weight.numel()).scatter(0, places, weight.flatten()).reshape(shape)
        if isinstance(layer.module, nn.ConvTranspose2d)
        else torch.empty(weight.numel()).scatter(0, places, weight.flatten()).reshape(shape).T
    )


def test_patches_of_an_inverse_convolution():
    value = sparse(3, (4, 5, 6))
    down = SparseConv3d(3, 3, 3, stride=2, padding=1, bias=False, indice_key="down")
    layer = layer_of(SparseInverseConv3d(3, 4, 3, indice_key="down", bias=False))
    with torch.no_grad():
        coarse = down(value)
        output = layer.module(coarse)
        rows = torch.arange(len(output.features))
        seen = patches(layer, coarse, output.features.shape, at_rows(layer, output, rows))
    torch.testing.assert_close(seen @ matrix_of(layer), output.features, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "module, value, words",
    [
        (
            nn.Conv3d(3, 4, 3),
            torch.zeros(1, 3, 3, 3, 3),
            "does not know the patches of layer (Conv3d, kernel (3, 3, 3))",
        ),
        (
            nn.ConvTranspose2d(3, 4, 3, stride=2),
            MAP,
            "layer has kernel (3, 3) and stride (2, 2); use SLICE",
        ),
    ],
)
def test_layers_whose_patches_are_not_known(module, value, words):
    layer = layer_of(module)
    with torch.no_grad(), pytest.raises(ConfigError) as caught:
        output = module(value)
        patches(layer, value, output.shape, torch.arange(1))
    assert words in str(caught.value)


@pytest.mark.parametrize("samples, inputs", [(60, 8), (20, 50)])
@pytest.mark.parametrize("with_constant", [True, False])
def test_ridge_against_numpy(samples, inputs, with_constant):
    """The shrunk solution is the plain one of a system with further rows; the constant is not shrunk."""
    random = np.random.RandomState(0)
    seen, answers = random.randn(samples, inputs) + 1, random.randn(samples, 3) + 2
    middle, target = (values.mean(axis=0) * with_constant for values in (seen, answers))
    shrink = 1e-3 * ((seen - middle) ** 2).sum() / inputs
    longer = np.concatenate([seen - middle, np.sqrt(shrink) * np.eye(inputs)])
    expected = np.linalg.lstsq(
        longer, np.concatenate([answers - target, np.zeros((inputs, 3))]), rcond=None
    )[0]
    solution, constant, explained = ridge(
        torch.from_numpy(seen), torch.from_numpy(answers), with_constant
    )
    np.testing.assert_allclose(solution, expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(constant, target - middle @ expected, rtol=1e-6, atol=1e-9)
    missed = ((answers - target) - (seen - middle) @ expected) ** 2
    assert explained == pytest.approx(1 - missed.sum() / ((answers - target) ** 2).sum())


def test_selection():
    """Channel 1 repeats channel 0 a little weaker: magnitude takes both, QR looks for something new."""
    rows = torch.randn(500, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows = rows * torch.tensor([3.0, 1.0, 2.0, 0.1])
    rows[:, 1] = 0.9 * rows[:, 0]
    matrix = rows.T @ rows
    generator = torch.Generator().manual_seed(0)
    assert select(matrix, 2, "magnitude", generator).tolist() == [0, 1]
    assert select(matrix, 2, "qr", generator).tolist() == [0, 2]
    assert select(matrix, 3, "qr", generator).tolist() == [0, 2, 3]
    drawn = {tuple(select(matrix, 2, "random", generator).tolist()) for _ in range(60)}
    assert len(drawn) == 6


def test_places_are_drawn_where_the_teacher_sees_something():
    scores = torch.full((1, 2, 4, 4), -9.0)
    scores[0, 1, 2, 3] = 9.0
    coords = torch.tensor([[0.0, 0, 0, 0]])
    interest = Interest.of(
        {"dense_head.conv_cls": scores}, {"voxel_coords": coords, "batch_size": 1}, [8, 8, 1]
    )
    weights = interest.weights(layer_of(nn.Conv2d(3, 3, 1)), torch.zeros(1, 3, 8, 8)).view(8, 8)
    assert weights[4:6, 6:8].min() > 1 and weights[0, 0] == pytest.approx(0.11, abs=0.01)
    assert weights[3, 3] == pytest.approx(0.01, abs=0.001)
    generator = torch.Generator().manual_seed(0)
    first = [int(draw(weights.flatten(), 1, generator)) for _ in range(100)]
    assert sum(place in (38, 39, 46, 47) for place in first) > 70
    assert draw(weights.flatten(), 64, generator).tolist() == list(range(64))


@pytest.fixture(scope="module")
def trained() -> Iterator[nn.Module]:
    """A small PointPillar after a minute's worth of learning in two seconds."""
    teacher = small_model(model_config(16)).train()
    for step in range(4):
        losses_of_a_few_steps(
            teacher, make_batch([random_scene(2 * step), random_scene(2 * step + 1)]), steps=15
        )
    yield teacher.eval()


def error_of_students(teacher: nn.Module, **options: Any) -> float:
    """Squared difference of the class logits on frames that were not calibrated on, students of half the width."""
    student = small_model(model_config(8), seed=1)
    frames = [make_batch([random_scene(seed)]) for seed in range(4)]
    init_student(teacher, student, frames, InitOptions(**options))
    with in_eval(student):
        held_out = make_batch([random_scene(seed) for seed in range(100, 104)])
        own, expected = (run(model, held_out)["batch_cls_preds"] for model in (student, teacher))
    return float((own - expected).square().mean())


def test_chosen_channels_are_better_than_any_and_fitted_ones_better_still(trained):
    chosen = error_of_students(trained, mode="SLICE")
    drawn = [
        error_of_students(trained, mode="SLICE", select="random", seed=seed) for seed in range(5)
    ]
    fitted = error_of_students(trained, mode="RECONSTRUCT")
    assert fitted < 0.5 * chosen < chosen < np.mean(drawn)


def test_what_can_be_fitted_exactly_is():
    """A teacher in which every second channel repeats its neighbour loses nothing by losing it."""
    teacher = small_second(second_config())
    student_config = second_config()
    student_config.BACKBONE_3D.NUM_FILTERS = [4, 6, 8, 8, 6]
    student_config.MAP_TO_BEV.NUM_BEV_FEATURES = 12
    student = small_second(student_config, seed=1)
    batches = [second_batch([random_scene(seed), random_scene(seed + 1)]) for seed in (0, 2)]
    with torch.no_grad():
        teacher.backbone_3d.conv_out[0].weight[1::2] = teacher.backbone_3d.conv_out[0].weight[::2]
        teacher.train().apply(
            lambda module: setattr(module, "momentum", 1.0)
        )  # norms learn the frames' statistics
        run(teacher, batches[0])
    init_student(teacher, student, batches, InitOptions("RECONSTRUCT", select="qr"))
    with in_eval(teacher), in_eval(student):
        expected, own = (run(model, batches[0])["batch_cls_preds"] for model in (teacher, student))
    spread = expected.std(dim=1).mean()
    assert (own - expected).abs().mean() < 0.05 * spread


@pytest.mark.parametrize(
    "name",
    [
        *(
            f"kitti_distill/{student}_init"
            for student in (
                "pointpillar_4x",
                "pointpillar_16x",
                "second_4x",
                "second_16x",
                "pointrcnn_4x",
                "pointrcnn_8x",
                "pointrcnn_16x",
            )
        ),
        "synthetic/pointpillar_student_init",
    ],
)
def test_students_of_the_project_have_their_teachers_topology(repo, name):
    cfg = load_config(repo / f"cfgs/{name}.yaml")
    assert (
        InitOptions.from_config(cfg.DISTILL.INIT_STUDENT).mode == "SLICE" and not cfg.DISTILL.TERMS
    )
    plain = load_config(repo / f"cfgs/{name.removesuffix('_init')}.yaml")
    assert (cfg.MODEL, cfg.OPTIMIZATION, cfg.DATA_CONFIG) == (
        plain.MODEL,
        plain.OPTIMIZATION,
        plain.DATA_CONFIG,
    )
    models = [
        build_network(config.MODEL, 3, DataSpec.from_config(config.DATA_CONFIG, config.CLASS_NAMES))
        for config in (load_config(repo / cfg.DISTILL.TEACHER.CFG_FILE), cfg)
    ]
    assert len(narrower_layers(*models)) >= 12
