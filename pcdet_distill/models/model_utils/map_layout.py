"""How the dense maps of a detector lie in memory.

The environment variable PCDET_DISTILL_MEMORY_FORMAT chooses:

* ``auto`` (default): channels_last, but contiguous for float32 on CUDA while TF32 is off. There
  CenterPoint and PillarNet took 20 to 37 GB on channels_last maps, and 4 and 5 GB under autocast.
  The tensors that autograd keeps have 0.7 GB a frame in both layouts; the rest can only be the work
  space of cuDNN's convolutions. Tensor cores, which TF32 and autocast use, want channels_last.
* ``channels_last`` or ``contiguous``: this one everywhere.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor

from ...errors import ConfigError

VARIABLE = "PCDET_DISTILL_MEMORY_FORMAT"
FORMATS = {
    "channels_last": torch.channels_last,
    "contiguous": torch.contiguous_format,
}


def with_layout(dense_map: Tensor) -> Tensor:
    """A map (B, C, H, W) in the layout for its device and precision; copied only if it differs."""
    layout = map_layout(dense_map)
    # Asked first, so that a map that lies right already adds no step to an exported graph.
    if dense_map.is_contiguous(memory_format=layout):
        return dense_map
    return dense_map.contiguous(memory_format=layout)


def map_layout(dense_map: Tensor) -> torch.memory_format:
    """The layout for a map (B, C, H, W) whose convolutions follow."""
    choice = os.environ.get(VARIABLE, "") or "auto"
    if choice == "auto":
        return torch.contiguous_format if _in_plain_float32(dense_map) else torch.channels_last
    if choice not in FORMATS:
        expected = ", ".join(["auto", *FORMATS])
        raise ConfigError(
            f"environment variable {VARIABLE} is '{choice}', expected one of {expected}"
        )
    return FORMATS[choice]


def _in_plain_float32(dense_map: Tensor) -> bool:
    """Whether its convolutions compute in float32 on a GPU without tensor cores."""
    if dense_map.device.type != "cuda" or dense_map.dtype != torch.float32:
        return False
    return not (torch.is_autocast_enabled("cuda") or torch.backends.cudnn.allow_tf32)
