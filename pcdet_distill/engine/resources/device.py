"""Where a model runs, and how it is laid out there."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from ...errors import ConfigError

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def choose_device(name: str | None = None, local_rank: int = 0) -> torch.device:
    """The device called ``name``; None: CUDA if there is one, else the CPU. ``cuda``: the GPU of ``local_rank``."""
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"--device {name}: unknown device; expected cpu, cuda or cuda:<number>")
    if device.type == "cpu":
        return torch.device("cpu")
    return _cuda_device(name, device.index, local_rank)


def _cuda_device(name: str, index: int | None, local_rank: int) -> torch.device:
    """The GPU ``index``, or the one of ``local_rank``; it becomes the current one."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise ConfigError(f"--device {name}: PyTorch finds no CUDA device here; use --device cpu")
    index = local_rank % count if index is None else index
    if index >= count:
        raise ConfigError(f"--device {name}: there are {count} CUDA devices, numbered from 0")
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def prepare_for_device(model: ModuleT, device: torch.device) -> ModuleT:
    """Move ``model`` to ``device``. On a CPU the 4-D weights become channels_last: convolutions run faster so."""
    model = model.to(device)
    if device.type == "cpu":
        # Not model.to(memory_format=...): that asks for it of every 5-D weight, too, and sparse convolutions have such.
        model._apply(_channels_last_if_4d)
    return model


def _channels_last_if_4d(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def synchronize(device: torch.device) -> None:
    """Wait until ``device`` has done what it was told: the clock then tells the truth."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
