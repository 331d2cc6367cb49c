"""The device of a run, and how a model is laid out on it."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from ..errors import ConfigError

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
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise _unknown_device(name, flag) from None
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type == "cuda":
        return _cuda_device(name, device.index, local_rank, flag)
    raise _unknown_device(name, flag)


def _unknown_device(name: str, flag: str) -> ConfigError:
    return ConfigError(f"{flag} {name}: unknown device; expected cpu, cuda or cuda:<number>")


def _cuda_device(name: str, index: int | None, local_rank: int, flag: str) -> torch.device:
    """The GPU ``index``, or the one of ``local_rank``. It becomes the current device."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise ConfigError(f"{flag} {name}: PyTorch finds no CUDA device here; use {flag} cpu")
    index = local_rank % count if index is None else index
    if index >= count:
        raise ConfigError(f"{flag} {name}: there are {count} CUDA devices, numbered from 0")
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


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


def synchronize(device: torch.device) -> None:
    """Wait until ``device`` has finished its work, so that a clock can be read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
