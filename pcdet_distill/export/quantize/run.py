"""The quantisation of an export: calibrate, measure every layer, choose, quantise."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path

from ...errors import ConfigError, DataError
from ...whole_files import whole_file
from ..boxes import Arrays
from ..exporter import Export, model_bytes
from .int8 import calibrate, quantize
from .options import QuantizeOptions
from .predictions import Candidates
from .sensitivity import (
    LayerError,
    Measurement,
    PredictionError,
    as_records,
    choose_float_layers,
    error_table,
)

REPORT_FILE = "quantization.json"
# Frames that calibrate nothing, at most. Half of them choose the layers that stay in float. The
# error is told for the other half: on the frames of the choice it would look too small.
MEASURED_FRAMES = 8
FEWEST_FRAMES = 2
# onnxruntime has no kernels for newer versions of QuantizeLinear.
HIGHEST_OPSET = 21


@dataclasses.dataclass(frozen=True)
class Quantized:
    """A quantised export, and what was measured.

    Attributes:
        export: the network in int8, with the config of the float one.
        options: of the quantisation.
        num_frames: that calibrated.
        errors: of every layer.
        in_float: the layers that stayed in float.
        error: of the whole network, on the frames that are counted by ``num_told_frames``.
        num_told_frames: that neither calibrated nor chose. 0: there were too few frames, and the
            error is that of the frames that chose.
    """

    export: Export
    options: QuantizeOptions
    num_frames: int
    errors: tuple[LayerError, ...]
    in_float: tuple[str, ...]
    error: PredictionError
    num_told_frames: int

    @property
    def table(self) -> str:
        """The errors of the layers, and of the whole."""
        num_int8 = len(self.errors) - len(self.in_float)
        frames = f"{self.num_told_frames} further frames"
        if self.num_told_frames == 0:
            frames = "the frames that chose the layers, for want of others"
        return (
            f"{error_table(self.errors, self.in_float)}\n"
            f"{num_int8} of {len(self.errors)} convolutions in int8: scores of candidates differ "
            f"by {self.error.score:.5f}, codes by {self.error.code:.4f} in the mean, on {frames}"
        )

    def write_report(self, folder: Path) -> Path:
        """Write ``quantization.json``."""
        content = {
            "options": dataclasses.asdict(self.options),
            "calibration_frames": self.num_frames,
            "error": self.error._asdict(),
            "error_frames": self.num_told_frames,
            "layers": as_records(self.errors, self.in_float),
        }
        path = folder / REPORT_FILE
        with whole_file(path) as partial:
            partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        return path


def quantize_export(
    export: Export, frames: Sequence[Arrays], options: QuantizeOptions | None = None
) -> Quantized:
    """The export with int8 convolutions.

    Args:
        export: the network in float, and its config.
        frames: its inputs for some frames of the training split: two dozen or more. The first
            calibrate, the next choose the layers that stay in float, the last tell the error.
        options: by default minmax.

    Raises:
        DataError: too few frames, or none with points.
        ConfigError: an opset for which int8 has no kernels.
    """
    options = options or QuantizeOptions()
    opset = export.model.opset_import[0].version
    if opset > HIGHEST_OPSET:
        raise ConfigError(f"quantisation: opset {opset}, expected {HIGHEST_OPSET} at most")
    filled = [inputs for inputs in frames if all(len(array) for array in inputs.values())]
    if len(filled) < FEWEST_FRAMES:
        raise DataError(
            f"calibration: {len(filled)} of {len(frames)} frames hold points in range, expected "
            f"{FEWEST_FRAMES} or more"
        )
    num_measured = min(MEASURED_FRAMES, len(filled) // 2)
    calibrating, measured = filled[:-num_measured], filled[-num_measured:]
    num_choosing = (num_measured + 1) // 2
    choosing, telling = measured[:num_choosing], measured[num_choosing:]
    candidates = Candidates.of(export.config)
    calibrated = calibrate(
        export.model,
        calibrating,
        method=options.method,
        percentile=options.percentile,
        candidates=candidates,
    )
    measurement = Measurement(calibrated, choosing, candidates)
    errors = measurement.layer_errors()
    in_float: list[str] = []
    if not math.isnan(measurement.error([]).score):
        in_float = choose_float_layers(measurement, errors, options.highest_error)
    told = Measurement(calibrated, telling, candidates) if telling else measurement
    model = quantize(calibrated, in_float)
    sha256 = hashlib.sha256(model_bytes(model)).hexdigest()
    config = dataclasses.replace(export.config, model_sha256=sha256)
    return Quantized(
        export=Export(model, config),
        options=options,
        num_frames=len(calibrating),
        errors=tuple(errors),
        in_float=tuple(in_float),
        error=told.error(in_float),
        num_told_frames=len(telling),
    )
