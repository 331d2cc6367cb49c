"""Weights that any implementation can make from the names and shapes of a state_dict."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


class Adjustments(NamedTuple):
    """Factors of a recording that keep its scores away from 0 and 1.

    Attributes:
        roi_scale: of the output layers of a RoI head.
        dense_scale: of the output layers of a dense head.
        heatmap_bias: added to the biases of output layers of heatmaps.
    """

    roi_scale: float = 1.0
    dense_scale: float = 1.0
    heatmap_bias: float = 0.0

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any]) -> Adjustments:
        """Those of the json of a recording."""
        return cls(
            roi_scale=meta.get("weight_roi_scale", 1.0),
            dense_scale=meta.get("weight_dense_scale", 1.0),
            heatmap_bias=meta.get("weight_hm_bias", 0.0),
        )


AS_RECIPE = Adjustments()


def fill_state_dict(
    state: Mapping[str, Tensor], salt: str = "", adjustments: Adjustments = AS_RECIPE
) -> dict[str, Tensor]:
    """A state_dict with the names and shapes of ``state`` and the recipe's values.

    Buffers of integers, such as the labels of a head, keep their values.
    """
    filled = {}
    for key, value in state.items():
        if key.endswith("head_label_indices"):
            filled[key] = value.clone()
            continue
        values = _fill(key, value, state, salt, adjustments.roi_scale)
        filled[key] = _adjust_dense_head(key, values, state, adjustments)
    return filled


def sha256_of(state: Mapping[str, Tensor]) -> str:
    """Digest of all tensors in their order."""
    digest = hashlib.sha256()
    for value in state.values():
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _fill(
    key: str, value: Tensor, state: Mapping[str, Tensor], salt: str, roi_scale: float
) -> Tensor:
    """Noise drawn from the name, scaled and shifted by what the parameter is."""
    stem, _, leaf = key.rpartition(".")
    if leaf in ("num_batches_tracked", "global_step"):
        return torch.zeros_like(value)
    shape = tuple(value.shape)
    seed = zlib.crc32((salt + key).encode())
    noise = np.random.Generator(np.random.PCG64(seed)).standard_normal(shape)
    if leaf == "running_var":
        filled = 1 + 0.2 * np.tanh(noise)
    elif leaf == "weight" and len(shape) == 1:
        filled = 1 + 0.05 * noise
    elif leaf == "weight" and len(shape) >= 2:
        filled = noise * _weight_scale(stem, shape, state, roi_scale)
    elif leaf == "bias":
        filled = 0.02 * noise - _bias_shift(stem, state)
    else:
        filled = 0.05 * noise
    single_precision = np.asarray(filled, dtype=np.float64).astype(np.float32)
    return torch.from_numpy(single_precision).reshape(shape)


def _adjust_dense_head(
    key: str, values: Tensor, state: Mapping[str, Tensor], adjustments: Adjustments
) -> Tensor:
    """The output layers of a dense head scaled, and the biases of its heatmaps shifted."""
    stem, _, leaf = key.rpartition(".")
    if not stem.startswith("dense_head.") or not _is_output_layer(stem, state):
        return values
    if leaf == "weight":
        return (values.double() * adjustments.dense_scale).float()
    if leaf == "bias" and "hm" in stem.split("."):
        return (values.double() + adjustments.heatmap_bias).float()
    return values


def _is_output_layer(stem: str, state: Mapping[str, Tensor]) -> bool:
    """Whether a layer predicts: it has few outputs and a bias."""
    weight = state.get(f"{stem}.weight")
    if weight is None or weight.dim() < 2:
        return False
    return weight.shape[0] < 64 and f"{stem}.bias" in state


def _weight_scale(
    stem: str, shape: tuple[int, ...], state: Mapping[str, Tensor], roi_scale: float
) -> float:
    """That of He et al. for the number of inputs, smaller for layers that predict."""
    # Of a sparse convolution about 9 cells of the kernel are occupied.
    num_inputs = 9 * shape[-1] if len(shape) == 5 else int(np.prod(shape[1:]))
    scale = np.sqrt(2 / num_inputs)
    if _is_output_layer(stem, state):
        predicts_boxes = "box" in stem or "reg" in stem
        scale = scale * (0.1 if predicts_boxes else 0.3)
        if stem.startswith("roi_head."):
            scale = scale * roi_scale
    return scale


def _bias_shift(stem: str, state: Mapping[str, Tensor]) -> float:
    """What is taken from the bias of class scores, so that few of them are high."""
    if not _is_output_layer(stem, state) or "cls" not in stem or "dir" in stem:
        return 0.0
    return 3.0 if "conv_cls" in stem else 0.5
