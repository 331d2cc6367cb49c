"""The outputs of the heads in 256 steps, with a range for every channel.

An int8 convolution has one range for all its output channels. The channels of a head are class
logits, metres and logarithms: one range for all would leave few steps to some. So the weights of a
channel are divided by the size of its steps, and the steps are multiplied again behind.

A range holds what final boxes need and no more. Logits far below the score threshold are cut off,
because no box comes from them. The ranges of box codes are those at cells whose score could make a
box: elsewhere codes are arbitrary, and wide.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..boxes import Arrays
from ..config import ExportConfig
from ..runners import OnnxRuntimeRunner
from .dense import with_outputs
from .editing import Editable

if TYPE_CHECKING:
    import onnx

SCORE_NAMES = ("conv_cls", "hm")
STEPS = 255
# Cells count from this part of the score threshold on, and logits are cut off there.
SHARE_OF_THRESHOLD = 0.25
MARGIN = 0.1  # of a range, on both sides: calibration frames do not hold every box


@dataclasses.dataclass(frozen=True)
class ChannelSteps:
    """The steps of a head's output: value = size * (step - zero).

    Attributes:
        size: (C,) float32.
        zero: (C,) uint8.
    """

    size: np.ndarray
    zero: np.ndarray


@dataclasses.dataclass(frozen=True)
class Candidates:
    """Which predictions can become boxes.

    Attributes:
        score_threshold: of the final boxes.
        class_counts: per head the classes of an anchor; 0 where a cell has one box for all classes.
    """

    score_threshold: float
    class_counts: tuple[int, ...]

    @classmethod
    def of(cls, config: ExportConfig) -> Candidates:
        """Those of an export."""
        counts = tuple(len(head.column_labels) for head in config.heads)
        return cls(config.post_processing.score_threshold, counts)

    @property
    def lowest_score(self) -> float:
        """Of a candidate."""
        return min(max(self.score_threshold * SHARE_OF_THRESHOLD, 1e-4), 0.5)

    @property
    def lowest_logit(self) -> float:
        """Of a candidate."""
        return math.log(self.lowest_score / (1 - self.lowest_score))

    def of_anchors(self, logits: np.ndarray, head: int) -> np.ndarray:
        """Whether (anchors, ny, nx) an anchor with logits (anchors * classes, ny, nx) is one."""
        num_classes = self.class_counts[head] or len(logits)
        by_anchor = logits.reshape(-1, num_classes, *logits.shape[1:])
        return by_anchor.max(axis=1) > self.lowest_logit


def prediction_tensors(model: onnx.ModelProto) -> list[str]:
    """Outputs of the convolutions that no ReLU follows: the predictions of the heads."""
    editable = Editable(model)
    found = []
    for node in editable.nodes:
        if node.op_type != "Conv":
            continue
        readers = editable.readers(node.output[0])
        if not any(reader.op_type == "Relu" for reader in readers):
            found.append(node.output[0])
    return found


def measure_steps(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    frames: Iterable[Arrays],
    post: Candidates,
) -> dict[str, ChannelSteps]:
    """The steps of every prediction.

    Args:
        model: the network in float.
        tensors: of ``prediction_tensors``.
        frames: inputs of calibration frames.
        post: which predictions can become boxes.
    """
    runner = OnnxRuntimeRunner(with_outputs(model, tensors))
    everywhere = {name: _Range() for name in tensors}
    at_candidates = {name: _Range() for name in tensors}
    heads = predictions_by_head(tensors)
    for inputs in frames:
        outputs = runner(inputs)
        for name in tensors:
            everywhere[name].include(outputs[name][0])
        for number, (score_tensor, others) in enumerate(heads.items()):
            scores = outputs[score_tensor][0]
            at_candidates[score_tensor].include(np.maximum(scores, post.lowest_logit))
            is_candidate = post.of_anchors(scores, number)
            for name in others:
                at_candidates[name].include_where(outputs[name][0], is_candidate)
    # A channel without a candidate in any frame has the range of all cells.
    return {name: at_candidates[name].steps(everywhere[name]) for name in tensors}


def predictions_by_head(tensors: Sequence[str]) -> dict[str, list[str]]:
    """For the scores of every head its other predictions."""
    heads: dict[str, list[str]] = {}
    for name in tensors:
        if name.rpartition(".")[2] in SCORE_NAMES:
            heads[name] = []
    for name in tensors:
        for scores, others in heads.items():
            if name != scores and name.startswith(scores.rpartition(".")[0] + "."):
                others.append(name)
    return heads


class _Range:
    """The lowest and highest value of every channel so far."""

    def __init__(self) -> None:
        self.lowest: np.ndarray | float = np.inf
        self.highest: np.ndarray | float = -np.inf

    def include(self, values: np.ndarray) -> None:
        """Values (C, ny, nx) of a frame."""
        self.lowest = np.minimum(self.lowest, values.min(axis=(1, 2)))
        self.highest = np.maximum(self.highest, values.max(axis=(1, 2)))

    def include_where(self, values: np.ndarray, is_candidate: np.ndarray) -> None:
        """Values (C, ny, nx) at the candidates (anchors, ny, nx) of a frame."""
        width = len(values) // len(is_candidate)
        chosen = is_candidate.repeat(width, axis=0)
        self.lowest = np.minimum(self.lowest, np.where(chosen, values, np.inf).min(axis=(1, 2)))
        self.highest = np.maximum(self.highest, np.where(chosen, values, -np.inf).max(axis=(1, 2)))

    def steps(self, otherwise: _Range) -> ChannelSteps:
        """The steps of the range with its margin; zero is always a step.

        Args:
            otherwise: the range of a channel that has no value here.
        """
        is_known = np.isfinite(self.lowest)
        lowest = np.where(is_known, self.lowest, otherwise.lowest)
        highest = np.where(is_known, self.highest, otherwise.highest)
        margin = (highest - lowest) * MARGIN
        lowest = np.minimum(lowest - margin, 0)
        highest = np.maximum(highest + margin, 0)
        size = np.maximum(highest - lowest, 1e-6) / STEPS
        zero = np.clip(np.round(-lowest / size), 0, STEPS)
        return ChannelSteps(size.astype(np.float32), zero.astype(np.uint8))


def scale_to_steps(model: onnx.ModelProto, steps: Mapping[str, ChannelSteps]) -> onnx.ModelProto:
    """The network with predictions counted in steps, and turned back to values behind.

    The tensor of a prediction in steps is named ``<prediction>.steps``.
    """
    editable = Editable(model)
    for name, own in steps.items():
        node = editable.maker(name)
        assert node is not None and node.op_type == "Conv"
        weight = editable.constant(node.input[1]) / own.size[:, None, None, None]
        bias = editable.constant(node.input[2]) / own.size + own.zero
        node.input[1] = editable.add_constant(f"{name}.step_weight", weight)
        node.input[2] = editable.add_constant(f"{name}.step_bias", bias.astype(np.float32))
        node.output[0] = f"{name}.steps"
        zero = editable.add_constant(f"{name}.zero", _of_channels(own.zero.astype(np.float32)))
        size = editable.add_constant(f"{name}.size", _of_channels(own.size))
        editable.add("Sub", [f"{name}.steps", zero], f"{name}.from_zero")
        editable.add("Mul", [f"{name}.from_zero", size], name)
    return editable.finish()


def _of_channels(values: np.ndarray) -> np.ndarray:
    """Values of channels (C,) in the shape that broadcasts to a map."""
    return values.reshape(1, -1, 1, 1)


def dequantize_steps(model: onnx.ModelProto, steps: Mapping[str, ChannelSteps]) -> onnx.ModelProto:
    """Let the DequantizeLinear behind a prediction turn steps to values, channel by channel.

    Args:
        model: a quantised network of ``scale_to_steps``.
    """
    editable = Editable(model)
    for name, own in steps.items():
        subtract = editable.maker(f"{name}.from_zero")
        multiply = editable.maker(name)
        assert subtract is not None and multiply is not None
        dequantize = editable.maker(subtract.input[0])
        if dequantize is None or dequantize.op_type != "DequantizeLinear":
            continue  # this convolution stayed in float
        editable.remove(subtract)
        editable.remove(multiply)
        editable.remove(dequantize)
        size = editable.add_constant(f"{name}.step_size", own.size)
        zero = editable.add_constant(f"{name}.step_zero", own.zero)
        editable.add("DequantizeLinear", [dequantize.input[0], size, zero], name, axis=1)
    return editable.finish()
