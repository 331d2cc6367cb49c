"""The number of threads is chosen by timing, and the timing leaves no trace. Also: devices."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import pytest
import torch
import toy_engine
from torch import nn

from pcdet_distill.engine.resources import threads
from pcdet_distill.errors import ConfigError
from pcdet_distill.models.device import choose_device, prepare_for_device
from pcdet_distill.types import BatchDict

QUIET = logging.getLogger("quiet")


@pytest.fixture(autouse=True)
def restore_threads() -> Iterator[None]:
    """Give PyTorch its number of threads back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("most", "expected"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])]
)
def test_powers_of_two_and_all_cores_are_tried(most: int, expected: list[int]) -> None:
    assert threads.candidates(most) == expected


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ({1: 1.0, 2: 0.6}, 2),
        ({1: 1.0, 2: 3.0}, 1),
        ({1: 1.0, 2: 0.97}, 1),  # 3 % less time is not worth a core
        ({1: 1.0, 2: 0.6, 4: 0.59}, 2),
    ],
)
def test_more_threads_only_where_they_are_worthwhile(seconds: dict[int, float], best: int) -> None:
    assert threads.best_number(seconds) == best


def test_the_search_stops_when_more_threads_are_slower() -> None:
    """Steps that sleep longer with every thread: 4 and 8 threads are never tried."""

    def step() -> None:
        time.sleep(0.01 * torch.get_num_threads())

    seconds = threads.time_threads(step, most=8)
    assert list(seconds) == [1, 2]
    assert threads.best_number(seconds) == 1


def test_timing_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in threads.CHOSEN_BY_USER:
        monkeypatch.delenv(name, raising=False)
    model = toy_engine.ToyDetector().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    tried = set()

    def run_step(model: toy_engine.ToyDetector, batch: BatchDict) -> None:
        """Change everything that a step can change, its batch included."""
        tried.add(torch.get_num_threads())
        model.update_global_step()
        ret_dict, _, _ = model({"values": batch["values"]})
        ret_dict["loss"].backward()
        batch["values"].zero_()
        with torch.no_grad():
            model.head.weight.add_(1)

    def first_batch() -> BatchDict:
        return {"values": torch.ones(4, 8)}

    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    chosen = threads.tune_threads(model, run_step, first_batch, QUIET, most=2)
    assert tried == {1, 2}
    assert chosen in (1, 2)
    assert torch.get_num_threads() == chosen
    # Random numbers, weights, buffers and gradients are as before.
    assert torch.equal(torch.rand(1), expected)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_choice_of_the_user_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("timed")

    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    torch.set_num_threads(3)
    chosen = threads.tune_threads(nn.Linear(1, 1), refuse, dict, QUIET, most=8)
    assert chosen == 3
    assert torch.get_num_threads() == 3


# --- Devices


def test_convolutions_are_channels_last_on_a_cpu() -> None:
    model = prepare_for_device(nn.Conv2d(4, 8, 3), torch.device("cpu"))
    assert model.weight.is_contiguous(memory_format=torch.channels_last)
    assert not model.weight.is_contiguous()


def test_the_cpu_can_be_chosen() -> None:
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_cuda_the_cpu_is_chosen() -> None:
    assert choose_device() == torch.device("cpu")
    with pytest.raises(ConfigError, match="--device cuda: PyTorch finds no CUDA"):
        choose_device("cuda")


@pytest.mark.parametrize("name", ["gpu", "meta"])
def test_unknown_devices_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"--device {name}: unknown device"):
        choose_device(name)
