"""The device of a run, how a model is laid out on it, and what is said when its memory ends."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..errors import ConfigError, first_line

logger = logging.getLogger(__name__)

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def choose_device(
    name: str | None = None, local_rank: int = 0, flag: str = "--device"
) -> torch.device:
    """The device called ``name``.

    Args:
        name: cpu, cuda (the GPU of ``local_rank``) or cuda:N. None: cuda if there is one, else cpu.
        local_rank: number of this process on its machine.
        flag: what a message calls the argument.
    """
    if name is None:
        name = _best_device()
    try:
        device = torch.device(name)
    except RuntimeError:
        raise _unknown_device(name, flag) from None
    if device.type == "cpu":
        return torch.device("cpu")
    return _other_device(name, device, local_rank, flag)


def _best_device() -> str:
    """cuda if there is one, else cpu."""
    if torch.cuda.is_available():
        return "cuda"
    _warn_of_old_driver()
    return "cpu"


def _other_device(name: str, device: torch.device, local_rank: int, flag: str) -> torch.device:
    """A device that is not the CPU."""
    if device.type == "cuda":
        return _cuda_device(name, device.index, local_rank, flag)
    raise _unknown_device(name, flag)


def _unknown_device(name: str, flag: str) -> ConfigError:
    return ConfigError(f"{flag} {name}: unknown device; expected cpu, cuda or cuda:<number>")


def _cuda_device(name: str, index: int | None, local_rank: int, flag: str) -> torch.device:
    """The GPU ``index``, or the one of ``local_rank``. It becomes the current device."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        problem = _cuda_problem()
        because = f" ({problem})" if problem else ""
        raise ConfigError(
            f"{flag} {name}: PyTorch finds no CUDA device here{because}; use {flag} cpu"
        )
    index = local_rank % count if index is None else index
    if index >= count:
        raise ConfigError(f"{flag} {name}: there are {count} CUDA devices, numbered from 0")
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def _cuda_problem() -> str:
    """Why PyTorch cannot use CUDA, in its own words; empty when it gives no reason."""
    if torch.version.cuda is None:
        return f"PyTorch {torch.__version__} is built without CUDA"
    if torch.cuda.is_available():
        return ""
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        # Its first sentence is the reason; others ask to visit web sites.
        return first_line(error).split(". ")[0]
    return ""


def _warn_of_old_driver() -> None:
    """A GPU that lies idle for an old driver is worth a line; a machine without one is not."""
    problem = _cuda_problem()
    if "driver" in problem and "too old" in problem:
        logger.warning("runs on the CPU: %s (a newer driver, or an older PyTorch)", problem)


@contextmanager
def memory_explained(what: str, frames: int, device: torch.device, remedy: str) -> Iterator[None]:
    """A GPU whose memory ends is a sentence with what to lower.

    Args:
        what: was going on, such as ``training``.
        frames: of the batches at hand.
        device: where they are.
        remedy: what to lower.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        unit = "frame" if frames == 1 else "frames"
        raise ConfigError(
            f"{what}: {device} ran out of memory with {frames} {unit} at once"
            f"{_memory_words(device)}; {remedy}"
        ) from error


def _memory_words(device: torch.device) -> str:
    """How much memory a GPU has, and how much of it is this process's; empty for a CPU."""
    if device.type != "cuda":
        return ""
    total_gib = torch.cuda.get_device_properties(device).total_memory / 2**30
    used_gib = torch.cuda.memory_allocated(device) / 2**30
    return f" ({used_gib:.1f} of {total_gib:.1f} GiB are this process's tensors)"


def prepare_for_device(model: ModuleT, device: torch.device) -> ModuleT:
    """Move ``model`` to ``device``. On a CPU its 4-D weights become channels_last.

    Convolutions on a CPU are faster in that layout.
    """
    model = model.to(device)
    if device.type == "cpu":
        # model.to(memory_format=...) would fail on the 5-D weights of sparse convolutions.
        model._apply(_channels_last_if_4d)
    return model


def _channels_last_if_4d(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def copy_to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on ``device``; the host does not wait for a GPU.

    The copy has a stream of its own, so that it runs while the GPU is busy with the step before.
    """
    if device.type != "cuda":
        return tensor.to(device)
    stream = _copy_stream(device)
    with torch.cuda.stream(stream):
        # The GPU reads pinned memory by itself. PyTorch keeps it until the copy is done.
        copied = tensor.pin_memory().to(device, non_blocking=True)
    current = torch.cuda.current_stream(device)
    current.wait_stream(stream)
    # Else the memory could be given to the next copy while the step still reads it.
    copied.record_stream(current)
    return copied


@lru_cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


def synchronize(device: torch.device) -> None:
    """Wait until ``device`` has finished its work, so that a clock can be read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
