"""The device of a run on made-up machines; a sentence where a GPU cannot be used or is full."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
import torch

from pcdet_distill.errors import ConfigError
from pcdet_distill.models.device import choose_device, memory_explained

OLD_DRIVER = (
    "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU "
    "driver by downloading and installing a new version from the URL: https://example.invalid"
)
NO_DRIVER = "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU"


def machine_without_cuda(monkeypatch: pytest.MonkeyPatch, complaint: str) -> None:
    """A CUDA build of PyTorch that cannot use a GPU."""

    def fail() -> None:
        raise RuntimeError(complaint)

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", fail)


@pytest.mark.parametrize(
    ("complaint", "reason"),
    [
        (OLD_DRIVER, "The NVIDIA driver on your system is too old (found version 11040)"),
        (NO_DRIVER, "Found no NVIDIA driver on your system"),
    ],
)
def test_a_gpu_that_cannot_be_used(
    complaint: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine_without_cuda(monkeypatch, complaint)
    with pytest.raises(ConfigError) as raised:
        choose_device("cuda")
    assert str(raised.value) == (
        f"--device cuda: PyTorch finds no CUDA device here ({reason}); use --device cpu"
    )


def test_a_build_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"\(PyTorch \S+ is built without CUDA\)"):
        choose_device("cuda:1")


@pytest.mark.parametrize(("complaint", "warnings"), [(OLD_DRIVER, 1), (NO_DRIVER, 0)])
def test_only_a_gpu_with_an_old_driver_is_worth_a_line(
    complaint: str,
    warnings: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    machine_without_cuda(monkeypatch, complaint)
    with caplog.at_level(logging.WARNING, logger="pcdet_distill"):
        assert choose_device() == torch.device("cpu")
    assert len(caplog.messages) == warnings
    if warnings:
        assert "runs on the CPU: The NVIDIA driver on your system is too old" in caplog.text


def fail_with(error: Exception, device: torch.device) -> None:
    """Raise ``error`` in a step of 16 frames."""
    with memory_explained("training", 16, device, "lower --batch_size"):
        raise error


def test_a_full_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """How full it is, with how many frames, and what to lower."""
    card = SimpleNamespace(total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 77.5 * 2**30)
    full = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
    with pytest.raises(ConfigError) as raised:
        fail_with(full, torch.device("cuda", 1))
    assert str(raised.value) == (
        "training: cuda:1 ran out of memory with 16 frames at once (77.5 of 80.0 GiB are this "
        "process's tensors); lower --batch_size"
    )


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="no memory error"):
        fail_with(RuntimeError("no memory error"), torch.device("cpu"))
