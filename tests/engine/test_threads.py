"""The number of threads is chosen by timing, and the timing leaves no trace."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import toy_engine
from torch import nn

from pcdet_distill.engine.resources import threads
from pcdet_distill.engine.resources.device import choose_device, prepare_for_device
from pcdet_distill.errors import ConfigError

QUIET = logging.getLogger("quiet")


@pytest.fixture(autouse=True)
def same_threads_after() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("most", "expected"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])]
)
def test_candidates(most: int, expected: list[int]) -> None:
    assert threads.candidates(most) == expected


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ({1: 1.0, 2: 0.6}, 2),
        ({1: 1.0, 2: 3.0}, 1),
        ({1: 1.0, 2: 0.97}, 1),  # a gain of 3 % is not worth a core
        ({1: 1.0, 2: 0.6, 4: 0.59}, 2),
    ],
)
def test_more_threads_only_when_they_pay(seconds: dict[int, float], best: int) -> None:
    assert threads.best_number(seconds) == best


def test_trying_stops_when_it_gets_slower() -> None:
    """Steps that sleep longer with every thread: 4 and 8 threads are never tried."""
    seconds = threads.time_threads(lambda: time.sleep(0.01 * torch.get_num_threads()), most=8)
    assert list(seconds) == [1, 2] and threads.best_number(seconds) == 1


def test_timing_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in threads.CHOSEN_BY_USER:
        monkeypatch.delenv(name, raising=False)
    model = toy_engine.ToyDetector().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    ran = []

    def run(model: nn.Module, batch: dict[str, Any]) -> None:
        ran.append(torch.get_num_threads())
        model.update_global_step()
        model({"values": batch["values"]})[0]["loss"].backward()
        batch["values"].zero_()  # a step may spoil its batch: each gets its own
        with torch.no_grad():
            model.head.weight.add_(1)

    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    chosen = threads.tune_threads(model, run, lambda: {"values": torch.ones(4, 8)}, QUIET, most=2)
    assert torch.equal(torch.rand(1), expected)
    assert chosen == torch.get_num_threads() and chosen in (1, 2) and set(ran) == {1, 2}
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_users_choice_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    torch.set_num_threads(3)
    chosen = threads.tune_threads(
        nn.Linear(1, 1), lambda *_: pytest.fail("timed"), lambda: None, QUIET, most=8
    )
    assert chosen == torch.get_num_threads() == 3


def test_convolutions_are_channels_last_on_a_cpu() -> None:
    model = prepare_for_device(nn.Conv2d(4, 8, 3), torch.device("cpu"))
    assert (
        model.weight.is_contiguous(memory_format=torch.channels_last)
        and not model.weight.is_contiguous()
    )


def test_devices() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    if not torch.cuda.is_available():
        assert choose_device() == torch.device("cpu")
        with pytest.raises(ConfigError, match="--device cuda: PyTorch finds no CUDA"):
            choose_device("cuda")
    for name in ("gpu", "meta"):
        with pytest.raises(ConfigError, match=f"--device {name}: unknown device"):
            choose_device(name)
