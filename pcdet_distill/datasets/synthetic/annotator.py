"""A human annotator: boxes that are a little off, objects that are missed or not judged.

Noise of a box of N points, with far = 1 + distance / 30 m, s = ``noise`` (1 + few_points /
sqrt(N)), and n standard normal, another for each number:

    height, width, length   times (1 + s (3 %, 4 %, 5 %) n)
    x and z of the camera   + 6 cm s far n
    y (its vertical)        + 3 cm s far n
    yaw                     + 2.5 degrees s far n

The form is a guess: we know of no measurement of how KITTI's annotators erred. Its scale is chosen
by what detectors reach (docs/synthetic.md).

Each object has its own stream of random numbers. So a frame has the same labels whenever it is
made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .labels import Label
from .scenes.options import LabelOptions
from .sensors.camera import small_rotation
from .streams import Streams

DISTANCE_OF_DOUBLE_NOISE_M = 30.0
SIZE_NOISE = np.array([0.05, 0.04, 0.03])  # of length, width, height
CENTRE_NOISE_M = np.array([0.06, 0.03, 0.06])  # along x, y, z of the camera
YAW_NOISE_RAD = np.deg2rad(2.5)
# A largely hidden object is missed with the full probability, a partly hidden one with half of it.
SHARE_BY_OCCLUSION = (0.0, 0.5, 1.0)
SMALLEST_FACTOR = 0.5  # of a size


@dataclass(frozen=True)
class Annotation:
    """The labels of a frame: objects, nearest first, then DontCare.

    Attributes:
        labels: of the annotator.
        truth: the true boxes of the same objects in the same order. An object that the annotator
            missed is DontCare here, so that finding it is no mistake.
    """

    labels: list[Label]
    truth: list[Label]


def annotate(true_labels: Sequence[Label], options: LabelOptions, streams: Streams) -> Annotation:
    """What an annotator makes of the true labels of a frame."""
    shift = _calibration_shift(options, streams)
    labels = []
    truth = []
    ignored = []
    missed = []
    for label in true_labels:
        if label.is_ignored:
            ignored.append(label)
            continue
        rng = streams.of("annotator", label.number)
        fate = rng.random()
        share = SHARE_BY_OCCLUSION[label.occluded]
        if fate < share * options.missed:
            missed.append(label.as_ignored())
        elif fate < share * (options.missed + options.ignored):
            ignored.append(label.as_ignored())
        else:
            labels.append(shift.moved(_with_noise(label, options, rng)))
            truth.append(label)
    return Annotation(labels + ignored, truth + ignored + missed)


def _with_noise(label: Label, options: LabelOptions, rng: np.random.Generator) -> Label:
    """A label with the noise of this module's table."""
    few = 1.0 + options.few_points / np.sqrt(label.num_points)
    scale = options.noise * few
    distance_m = np.hypot(label.location[0], label.location[2])
    far = 1.0 + distance_m / DISTANCE_OF_DOUBLE_NOISE_M
    size_factor = 1.0 + scale * SIZE_NOISE * rng.normal(size=3)
    shift_m = scale * far * CENTRE_NOISE_M * rng.normal(size=3)
    turn_rad = scale * far * YAW_NOISE_RAD * rng.normal()
    return replace(
        label,
        size_m=label.size_m * np.maximum(size_factor, SMALLEST_FACTOR),
        location=label.location + shift_m,
        rotation_y=label.rotation_y + turn_rad,
    )


@dataclass(frozen=True)
class CalibrationShift:
    """How all labels of a frame lie against its points: by a turn about the camera, and a shift."""

    rotation: np.ndarray
    shift_m: np.ndarray
    yaw_rad: float

    def moved(self, label: Label) -> Label:
        """A label where it lies with this calibration."""
        return replace(
            label,
            location=self.rotation @ label.location + self.shift_m,
            rotation_y=label.rotation_y + self.yaw_rad,
        )


def _calibration_shift(options: LabelOptions, streams: Streams) -> CalibrationShift:
    """A calibration that is off by the standard deviations of the options."""
    rng = streams.of("calibration")
    angles_rad = np.deg2rad(options.calibration_deg) * rng.normal(size=3)
    shift_m = options.calibration_m * rng.normal(size=3)
    # The camera's y axis points down: a turn about it is the yaw of a label.
    return CalibrationShift(small_rotation(*angles_rad), shift_m, float(angles_rad[1]))
