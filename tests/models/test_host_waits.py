"""How often the host waits for the GPU in a pass of each detector.

Without a GPU the CPU pretends to be one (tests/pretend_gpu.py). Counted are waits of the models.
Those of the operators in ops/ are not: on a GPU their Triton forms run, which wait elsewhere.
docs/gpu.md lists why the ones that remain are there.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from pretend_gpu import pretended
from pretend_waits import Waits
from small_model import random_scene
from test_degenerate_inputs import DETECTORS
from torch import Tensor

from pcdet_distill.ops.dispatch import VARIABLE


class Expected(NamedTuple):
    """Waits of a training step and of an evaluation, on two frames and on three."""

    training: tuple[int, int]
    evaluation: tuple[int, int]


# A number that grew from two frames to three would belong to a loop over the frames.
EXPECTED = {
    "PointPillar": Expected((4, 4), (1, 1)),
    "PointPillar, several heads": Expected((4, 4), (1, 1)),
    "CenterPoint, several heads": Expected((3, 3), (2, 2)),
    "PillarNet, centre head": Expected((2, 2), (1, 1)),
    "PointRCNN": Expected((13, 13), (8, 8)),
}
# Sparse convolution in plain PyTorch takes half a minute for each of them.
EXPECTED_SLOW = {
    "SECONDNet": Expected((3, 3), (0, 0)),
    "SECONDNetIoU": Expected((5, 5), (1, 1)),
    "PVRCNN": Expected((32, 32), (25, 25)),
    "PVRCNNPlusPlus": Expected((38, 38), (32, 32)),
    "VoxelRCNN": Expected((9, 9), (4, 4)),
    "PartA2Net": Expected((11, 11), (3, 3)),
    "PartA2, anchor-free": Expected((10, 10), (4, 4)),
}


@pytest.fixture(autouse=True)
def plain_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "plain")


@pytest.mark.parametrize("detector", EXPECTED)
def test_waits(detector: str) -> None:
    check_waits(detector, EXPECTED[detector])


@pytest.mark.slow
@pytest.mark.parametrize("detector", EXPECTED_SLOW)
def test_waits_of_detectors_with_sparse_convolution(detector: str) -> None:
    check_waits(detector, EXPECTED_SLOW[detector])


def check_waits(detector: str, expected: Expected) -> None:
    """Compare; a failure shows where the host waits."""
    two = waits_of(detector, num_frames=2)
    three = waits_of(detector, num_frames=3)
    found = Expected(
        training=(of_models(two[0]), of_models(three[0])),
        evaluation=(of_models(two[1]), of_models(three[1])),
    )
    tables = "\n\n".join(waits.table() for waits in (*two, *three))
    assert found == expected, tables


def waits_of(detector: str, num_frames: int) -> tuple[Waits, Waits]:
    """The waits of one training step and of one evaluation."""
    make_model, collate = DETECTORS[detector]
    model = make_model()
    batch = collate([random_scene(seed) for seed in range(num_frames)])
    with pretended("cuda"):
        model = model.to("cuda")
        for key, value in batch.items():
            batch[key] = value.to("cuda") if isinstance(value, Tensor) else value
    with pretended("cuda") as training:
        model.train()(dict(batch))[0]["loss"].backward()
    with pretended("cuda") as evaluation, torch.no_grad():
        model.eval()(dict(batch))
    return training, evaluation


def of_models(waits: Waits) -> int:
    """Waits outside of the operators; rows by frame, which have no Triton form, are counted."""
    total = 0
    for line, times in waits.by_function().items():
        if not line.startswith("ops/") or line.startswith("ops/frames.py:"):
            total += times
    return total


def test_the_counter_knows_what_waits() -> None:
    with pretended("cuda") as waits:
        values = torch.arange(6.0).to("cuda")
        waits.places.clear()
        assert values.sum().item() == 15
        assert len(values[values > 2]) == 3
        assert values.tolist() == [0, 1, 2, 3, 4, 5]
        torch.nonzero(values)
        torch.tensor([1.0], device="cuda")
        values.cpu()
    assert waits.total == 6, waits.table()


def test_the_counter_knows_what_does_not_wait() -> None:
    with pretended("cuda") as waits:
        values = torch.arange(6.0).to("cuda")
        waits.places.clear()
        torch.where(values > 2, values, 0.0).sum()
        values[values > 2] = 0.0
        torch.tensor([1.0]).to("cuda", non_blocking=True)
        values.sort(stable=True)
        assert values.device.type == "cuda" and values.is_cuda
    assert waits.total == 0, waits.table()
