"""Int8 networks of other detectors: several heads, dense parts, two levels, dynamic pillars."""

from __future__ import annotations

import numpy as np
import pytest
from small_exports import small_detector

from pcdet_distill.export.exporter import export_detector
from pcdet_distill.export.quantize.int8 import calibrate, quantize
from pcdet_distill.export.quantize.predictions import Candidates
from pcdet_distill.export.quantize.sensitivity import Measurement
from pcdet_distill.export.reference import network_inputs
from pcdet_distill.export.runners import OnnxRuntimeRunner

KINDS = ["multi_head", "two_center_heads", "dynamic_pillars", "second", "pillarnet", "one_level"]


@pytest.mark.parametrize("kind", KINDS)
def test_int8_predictions_are_near_the_float_ones(kind: str, tmp_path) -> None:
    detector, cloud = small_detector(kind)
    (tmp_path / "model.pth").write_bytes(b"weights")
    export = export_detector(detector, tmp_path / "model.pth", opset=20)
    frames = [network_inputs(detector.model, detector.batch(cloud(seed))) for seed in range(4)]
    candidates = Candidates.of(export.config)
    calibrated = calibrate(
        export.model, frames[:3], method="minmax", percentile=99.9, candidates=candidates
    )
    error = Measurement(calibrated, frames[3:], candidates).error([])
    assert 0 < error.score < 0.01
    assert 0 < error.code < 0.02
    network = quantize(calibrated)
    kinds = [node.op_type for node in network.graph.node]
    assert kinds.count("QuantizeLinear") > 5
    outputs = OnnxRuntimeRunner(network)(frames[3])
    expected = OnnxRuntimeRunner(export.model)(frames[3])
    assert outputs.keys() == expected.keys()
    for name, array in outputs.items():
        assert array.shape == expected[name].shape
        assert np.isfinite(array).all()
