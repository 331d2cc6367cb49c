"""What int8 costs, layer by layer: which convolutions should stay in float.

Every convolution is quantised alone, and all but it. The error is that of the heads' predictions at
cells that could make a box, on frames that did not calibrate.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..boxes import Arrays
from ..runners import OnnxRuntimeRunner
from .dense import with_outputs
from .int8 import Calibrated, quantize
from .predictions import SHARE_OF_THRESHOLD, predictions_by_head

if TYPE_CHECKING:
    import onnx

STEPS_SUFFIX = ".steps"


class PredictionError(NamedTuple):
    """Mean absolute differences at candidate cells.

    Attributes:
        score: of the scores.
        code: of the box codes and direction logits.
    """

    score: float
    code: float


@dataclasses.dataclass(frozen=True)
class LayerError:
    """The errors of one layer.

    Attributes:
        layer: its name.
        alone: with this layer in int8 and the others in float.
        without: with this layer in float and the others in int8.
    """

    layer: str
    alone: PredictionError
    without: PredictionError


class Measurement:
    """Predictions of the float network, and how far quantised ones are from them.

    Args:
        calibrated: the network.
        frames: inputs.
        score_threshold: of the final boxes.
    """

    def __init__(
        self, calibrated: Calibrated, frames: Sequence[Arrays], score_threshold: float
    ) -> None:
        self.calibrated = calibrated
        self.frames = frames
        self.heads = predictions_by_head(list(calibrated.steps))
        self.lowest_score = score_threshold * SHARE_OF_THRESHOLD
        self.expected = self._predictions(calibrated.model)

    def _predictions(self, model: onnx.ModelProto) -> list[Arrays]:
        runner = OnnxRuntimeRunner(with_outputs(model, list(self.calibrated.steps)))
        return [runner(inputs) for inputs in self.frames]

    def error(self, in_float: Sequence[str]) -> PredictionError:
        """The error with these layers in float, and all others in int8."""
        found = self._predictions(quantize(self.calibrated, in_float))
        scores = []
        codes = []
        for own, expected in zip(found, self.expected):
            for score_name, others in self.heads.items():
                # Scores that make no box are cut off in int8, so they do not count here.
                score = np.maximum(_sigmoid(own[score_name][0]), self.lowest_score)
                right_score = np.maximum(_sigmoid(expected[score_name][0]), self.lowest_score)
                difference = np.abs(score - right_score)
                is_candidate = np.maximum(score, right_score) > self.lowest_score
                scores.append(difference[is_candidate])
                is_hot = right_score.max(axis=0) > self.lowest_score
                for name in others:
                    codes.append(np.abs(own[name][0] - expected[name][0])[:, is_hot].ravel())
        return PredictionError(_mean(scores), _mean(codes))

    def layer_errors(self) -> list[LayerError]:
        """The errors of every layer."""
        layers = self.calibrated.layers
        errors = []
        for layer in layers:
            others = [name for name in layers if name != layer]
            errors.append(LayerError(layer, self.error(others), self.error([layer])))
        return errors


def choose_float_layers(
    measurement: Measurement, errors: Sequence[LayerError], highest_error: float
) -> list[str]:
    """The layers that stay in float: the most sensitive first, until the scores are near enough.

    Args:
        measurement: of the network.
        errors: of its layers.
        highest_error: the mean difference of scores that is accepted.
    """
    in_float: list[str] = []
    most_sensitive = sorted(errors, key=lambda error: -error.alone.score)
    for error in most_sensitive:
        if measurement.error(in_float).score <= highest_error:
            break
        in_float.append(error.layer)
    return in_float


def error_table(errors: Sequence[LayerError], in_float: Sequence[str]) -> str:
    """One line for each layer."""
    names = {error.layer: shown_name(error.layer) for error in errors}
    width = max([len(name) for name in names.values()] + [5])
    lines = [
        f"{'layer':<{width}}  {'score: alone':>12} {'without':>8}  {'code: alone':>11} without"
    ]
    for error in errors:
        kept = "  float" if error.layer in in_float else ""
        lines.append(
            f"{names[error.layer]:<{width}}  {error.alone.score:>12.5f} {error.without.score:>8.5f}"
            f"  {error.alone.code:>11.4f} {error.without.code:>7.4f}{kept}"
        )
    return "\n".join(lines)


def shown_name(layer: str) -> str:
    """The name of a layer without what its rewriting added."""
    return layer.removesuffix(STEPS_SUFFIX).removesuffix(".blocks")


def as_records(errors: Sequence[LayerError], in_float: Sequence[str]) -> list[Mapping[str, object]]:
    """The table for a JSON file."""
    records: list[Mapping[str, object]] = []
    for error in errors:
        records.append(
            {
                "layer": shown_name(error.layer),
                "in_float": error.layer in in_float,
                "alone": error.alone._asdict(),
                "without": error.without._asdict(),
            }
        )
    return records


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


def _mean(parts: Sequence[np.ndarray]) -> float:
    values = np.concatenate(parts) if parts else np.zeros(0)
    return float(values.mean()) if len(values) else math.nan
