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
from .predictions import Candidates, predictions_by_head

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
        candidates: which predictions can become boxes.
    """

    def __init__(
        self, calibrated: Calibrated, frames: Sequence[Arrays], candidates: Candidates
    ) -> None:
        self.calibrated = calibrated
        self.frames = frames
        self.heads = predictions_by_head(list(calibrated.steps))
        self.candidates = candidates
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
            for number, (score_name, others) in enumerate(self.heads.items()):
                logits = expected[score_name][0]
                scores.append(self._score_differences(own[score_name][0], logits))
                is_candidate = self.candidates.of_anchors(logits, number)
                for name in others:
                    difference = np.abs(own[name][0] - expected[name][0])
                    width = len(difference) // len(is_candidate)
                    codes.append(difference[is_candidate.repeat(width, axis=0)])
        return PredictionError(_mean(scores), _mean(codes))

    def _score_differences(self, found: np.ndarray, expected: np.ndarray) -> np.ndarray:
        """Differences of scores, where a score is that of a candidate or becomes one."""
        lowest = self.candidates.lowest_score
        # Lower scores make no box and are cut off in int8, so they do not count here.
        score = np.maximum(_sigmoid(found), lowest)
        right = np.maximum(_sigmoid(expected), lowest)
        return np.abs(score - right)[(right > lowest) | (score > 2 * lowest)]

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
    return 1 / (1 + np.exp(-np.clip(logits, -50, 50)))


def _mean(parts: Sequence[np.ndarray]) -> float:
    values = np.concatenate(parts) if parts else np.zeros(0)
    return float(values.mean()) if len(values) else math.nan
