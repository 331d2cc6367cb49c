"""A batch on its way to the device: dtypes, voxels made there, and no waiting for copies."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from easydict import EasyDict
from pretend_gpu import pretended
from small_model import MAX_POINTS, RANGE, VOXEL_SIZE, random_scene
from torch import Tensor

from pcdet_distill.datasets.collate import collate_items
from pcdet_distill.datasets.processor import DataProcessor
from pcdet_distill.models import device as device_module
from pcdet_distill.models import load_data_to_device
from pcdet_distill.ops.dispatch import VARIABLE

NO_POINTS = np.zeros((0, 4), np.float32)
VOXEL_KEYS = ("voxels", "voxel_coords", "voxel_num_points")


def batch_of(clouds: list[np.ndarray], *, on_device: bool, most: int = 1000) -> dict[str, Any]:
    """A collated batch of numpy arrays."""
    step = EasyDict(
        NAME="transform_points_to_voxels",
        VOXEL_SIZE=VOXEL_SIZE,
        MAX_POINTS_PER_VOXEL=MAX_POINTS,
        MAX_NUMBER_OF_VOXELS={"train": most, "test": most},
        ON_DEVICE=on_device,
    )
    processor = DataProcessor([step], np.array(RANGE, np.float32), True, num_point_features=4)
    items = []
    for points in clouds:
        item = {"points": points, "use_lead_xyz": True}
        items.append(processor.forward(item, np.random.RandomState(0)))
    return collate_items(items)


CLOUDS = {
    "two frames": [random_scene(0)[0], random_scene(1)[0]],
    "an empty frame between": [random_scene(0)[0], NO_POINTS, random_scene(1)[0]],
    "nothing": [NO_POINTS],
}


@pytest.mark.parametrize("kernels", ["auto", "plain"])
@pytest.mark.parametrize("most", [1000, 40])
@pytest.mark.parametrize("clouds", CLOUDS.values(), ids=CLOUDS.keys())
def test_voxels_of_the_device_are_those_of_the_workers(
    clouds: list[np.ndarray], most: int, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, kernels)
    expected = batch_of(clouds, on_device=False, most=most)
    found = batch_of(clouds, on_device=True, most=most)
    assert not set(VOXEL_KEYS) & set(found)
    for batch in (expected, found):
        load_data_to_device(batch, "cpu")
    assert "voxel_rule" not in found
    for key in VOXEL_KEYS:
        assert found[key].dtype == torch.float32
        assert torch.equal(found[key], expected[key]), key


def test_a_batch_within_the_batch_gets_its_voxels_too() -> None:
    scenes = CLOUDS["two frames"]
    batch = {"teacher": batch_of(scenes, on_device=True)}
    expected = batch_of(scenes, on_device=False)
    load_data_to_device(batch, "cpu")
    assert torch.equal(batch["teacher"]["voxels"], torch.from_numpy(expected["voxels"]))


@pytest.fixture
def made_up_streams(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """CUDA's streams without CUDA; the list says what was asked of them."""
    calls: list[str] = []
    current = SimpleNamespace(wait_stream=lambda stream: calls.append("wait"))
    monkeypatch.setattr(device_module, "_copy_stream", lambda device: "side stream")
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current)

    def pin(tensor: Tensor) -> Tensor:
        calls.append("pin")
        return tensor

    monkeypatch.setattr(Tensor, "pin_memory", pin)
    monkeypatch.setattr(Tensor, "record_stream", lambda tensor, stream: calls.append("record"))
    return calls


def test_the_host_does_not_wait_for_copies(made_up_streams: list[str]) -> None:
    batch = batch_of(CLOUDS["two frames"], on_device=False)
    with pretended("cuda") as waits:
        load_data_to_device(batch, "cuda")
        assert batch["voxels"].is_cuda and batch["points"].is_cuda
    assert waits.total == 0, waits.table()
    arrays = len([value for value in batch.values() if isinstance(value, Tensor)])
    # In this order for each of them: else the step could read what is not there yet.
    assert made_up_streams == ["pin", "wait", "record"] * arrays
