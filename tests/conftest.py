"""Options and fixtures shared by the whole suite."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pretend_gpu
import pytest
import torch

REPO = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden",
        default=str(REPO / "tests" / "golden"),
        help="folder of golden files for tests/parity",
    )
    parser.addoption(
        "--golden_nuscenes",
        default=None,
        help="folder of golden files of nuScenes; default: golden_nuscenes beside --golden",
    )
    parser.addoption(
        "--real", default=None, help="folder of real frames for tests/datasets/readers"
    )
    parser.addoption(
        "--device",
        default="cpu",
        help="device of the tests that take the `device` fixture; pretend: one that only finds "
        "tensors of two devices that meet (tests/pretend_gpu.py)",
    )
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


def pytest_configure(config: pytest.Config) -> None:
    """Without a GPU the Triton kernels run through Triton's interpreter.

    Triton reads the variable when it is imported, which any test may do first.
    """
    if config.getoption("--device") == "cpu":
        os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow; run with --slow"))


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    """The device named by --device."""
    name = request.config.getoption("--device")
    return pretend_gpu.register() if name == pretend_gpu.NAME else torch.device(name)


@pytest.fixture(autouse=True)
def a_gpu_that_is_pretended(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """With --device pretend a run without a chosen device takes that one, as it takes a GPU."""
    if request.config.getoption("--device") != pretend_gpu.NAME:
        yield
        return
    there = pretend_gpu.register()
    monkeypatch.setenv("PCDET_DISTILL_KERNELS", "plain")
    monkeypatch.setattr("pcdet_distill.models.device._best_device", lambda: pretend_gpu.NAME)
    monkeypatch.setattr("pcdet_distill.models.device._other_device", lambda *_: there)
    monkeypatch.setattr("threading.Thread.run", knowing_the_device(threading.Thread.run))
    with pretend_gpu.pretended():
        yield


def knowing_the_device(
    run: Callable[[threading.Thread], None],
) -> Callable[[threading.Thread], None]:
    """PyTorch's modes hold for one thread, so each further one enters them too."""

    def run_with_the_device(thread: threading.Thread) -> None:
        with pretend_gpu.pretended():
            run(thread)

    return run_with_the_device


@pytest.fixture(scope="session")
def repo() -> Path:
    """The root of the checkout."""
    return REPO


@pytest.fixture(autouse=True, scope="session")
def one_thread_per_process() -> None:
    """Use the threads that the caller allows: two busy processes slow each other down."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


@pytest.fixture(autouse=True, scope="session")
def package_logger_at_first() -> tuple[list[logging.Handler], int, bool]:
    """Handlers, level and propagation of the package's logger before the first test."""
    logger = logging.getLogger("pcdet_distill")
    return list(logger.handlers), logger.level, logger.propagate


@pytest.fixture(autouse=True)
def the_package_logger_stays_as_it_is(
    package_logger_at_first: tuple[list[logging.Handler], int, bool],
) -> Iterator[None]:
    """Restore the package's logger, which a tool changes when a test or its fixtures run it."""
    yield
    logger = logging.getLogger("pcdet_distill")
    handlers, level, propagate = package_logger_at_first
    logger.handlers, logger.propagate = list(handlers), propagate
    logger.setLevel(level)
