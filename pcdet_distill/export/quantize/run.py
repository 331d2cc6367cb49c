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
# The layers are measured on so many frames, which calibrate nothing.
MEASURED_FRAMES = 4
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
        error: of the whole network.
    """

    export: Export
    options: QuantizeOptions
    num_frames: int
    errors: tuple[LayerError, ...]
    in_float: tuple[str, ...]
    error: PredictionError

    @property
    def table(self) -> str:
        """The errors of the layers, and of the whole."""
        num_int8 = len(self.errors) - len(self.in_float)
        return (
            f"{error_table(self.errors, self.in_float)}\n"
            f"{num_int8} of {len(self.errors)} convolutions in int8: scores of candidates differ "
            f"by {self.error.score:.5f}, codes by {self.error.code:.4f} in the mean"
        )

    def write_report(self, folder: Path) -> Path:
        """Write ``quantization.json``."""
        content = {
            "options": dataclasses.asdict(self.options),
            "calibration_frames": self.num_frames,
            "error": self.error._asdict(),
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
        frames: its inputs for some frames of the training split: a dozen or more. The last ones
            measure the layers, the others calibrate.
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
    calibrating, measuring = filled[:-num_measured], filled[-num_measured:]
    candidates = Candidates.of(export.config)
    calibrated = calibrate(
        export.model,
        calibrating,
        method=options.method,
        percentile=options.percentile,
        candidates=candidates,
    )
    measurement = Measurement(calibrated, measuring, candidates)
    errors = measurement.layer_errors()
    in_float: list[str] = []
    if not math.isnan(measurement.error([]).score):
        in_float = choose_float_layers(measurement, errors, options.highest_error)
    model = quantize(calibrated, in_float)
    sha256 = hashlib.sha256(model_bytes(model)).hexdigest()
    config = dataclasses.replace(export.config, model_sha256=sha256)
    return Quantized(
        export=Export(model, config),
        options=options,
        num_frames=len(calibrating),
        errors=tuple(errors),
        in_float=tuple(in_float),
        error=measurement.error(in_float),
    )
