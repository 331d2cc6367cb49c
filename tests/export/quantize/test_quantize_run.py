"""Int8 networks: near to the float one, rewritten without a change, refused in one sentence."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from layout_detectors import CENTERPOINT, POINTPILLAR, crowded_cloud, make_detector, small_config

from pcdet_distill.errors import ConfigError, DataError
from pcdet_distill.export.exporter import Export, export_detector, model_bytes
from pcdet_distill.export.quantize import Quantized, QuantizeOptions, quantize_export
from pcdet_distill.export.quantize.int8 import Calibrated, calibrate, quantize
from pcdet_distill.export.quantize.predictions import Candidates, prediction_tensors
from pcdet_distill.export.quantize.sensitivity import Measurement, choose_float_layers
from pcdet_distill.export.quantize.upsampling import replace_transposed_convolutions
from pcdet_distill.export.reference import network_inputs
from pcdet_distill.export.runners import OnnxRuntimeRunner

THRESHOLD = 0.1


@pytest.fixture(scope="module", params=[POINTPILLAR, CENTERPOINT])
def exported(request, tmp_path_factory) -> tuple[Export, list]:
    """A detector's export at an opset with int8 kernels, and inputs of frames."""
    detector, path = make_detector(small_config(request.param), tmp_path_factory.mktemp("int8"))
    export = export_detector(detector, path, opset=20)
    frames = [network_inputs(detector.model, detector.batch(crowded_cloud(n))) for n in range(8)]
    return export, frames


@pytest.fixture(scope="module")
def quantized(exported) -> Quantized:
    export, frames = exported
    return quantize_export(export, frames)


@pytest.fixture(scope="module")
def calibrated(exported) -> Calibrated:
    export, frames = exported
    return calibrate(
        export.model,
        frames[:4],
        method="minmax",
        percentile=99.9,
        candidates=Candidates.of(export.config),
    )


def kinds_of(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def test_int8_boxes_are_near_the_float_ones(exported, quantized) -> None:
    export, frames = exported
    assert quantized.num_frames == 4
    assert quantized.error.score < 0.02
    kinds = kinds_of(quantized.export.model)
    assert kinds.count("QuantizeLinear") > 10
    assert "ConvTranspose" not in kinds
    assert len(model_bytes(quantized.export.model)) < 0.5 * len(model_bytes(export.model))
    in_float, in_int8 = OnnxRuntimeRunner(export.model), OnnxRuntimeRunner(quantized.export.model)
    for inputs in frames[:3]:
        expected, found = in_float(inputs), in_int8(inputs)
        if expected["scores"].ndim == 1:
            # The best cells of a heatmap, best first.
            np.testing.assert_allclose(found["scores"][:5], expected["scores"][:5], atol=0.03)
            continue
        is_candidate = expected["scores"].max(axis=1) > THRESHOLD
        assert is_candidate.sum() > 10
        difference = np.abs(found["scores"] - expected["scores"])[is_candidate]
        assert difference.mean() < 0.01
        distance = np.abs(found["boxes"] - expected["boxes"])[is_candidate, :6]
        assert distance.mean() < 0.05


def test_the_network_of_a_quantised_export_is_its_file(quantized) -> None:
    content = model_bytes(quantized.export.model)
    assert quantized.export.config.model_sha256 == hashlib.sha256(content).hexdigest()


def test_the_same_frames_give_the_same_bytes(exported, calibrated) -> None:
    export, frames = exported
    again = calibrate(
        export.model,
        frames[:4],
        method="minmax",
        percentile=99.9,
        candidates=Candidates.of(export.config),
    )
    assert model_bytes(quantize(calibrated)) == model_bytes(quantize(again))


def test_upsampling_by_convolutions_computes_the_same(exported) -> None:
    export, frames = exported
    rewritten = replace_transposed_convolutions(export.model)
    assert "ConvTranspose" in kinds_of(export.model)
    assert "ConvTranspose" not in kinds_of(rewritten)
    for inputs in frames[:2]:
        expected = OnnxRuntimeRunner(export.model)(inputs)
        for name, array in OnnxRuntimeRunner(rewritten)(inputs).items():
            np.testing.assert_allclose(array, expected[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ["entropy", "percentile"])
def test_calibration_methods(exported, calibrated, method: str) -> None:
    export, frames = exported
    other = calibrate(
        export.model,
        frames[:4],
        method=method,
        percentile=99.0,
        candidates=Candidates.of(export.config),
    )
    # In four frames the entropy may choose the whole range.
    if method == "percentile":
        assert model_bytes(quantize(other)) != model_bytes(quantize(calibrated))
    assert Measurement(other, frames[4:6], Candidates.of(export.config)).error([]).score < 0.05


def test_a_layer_in_float_has_no_int8_weights(exported, calibrated) -> None:
    export, frames = exported
    layer = calibrated.layers[0]
    number = kinds_of(quantize(calibrated)).count("DequantizeLinear")
    assert kinds_of(quantize(calibrated, [layer])).count("DequantizeLinear") < number
    everything = quantize(calibrated, calibrated.layers)
    expected = OnnxRuntimeRunner(export.model)(frames[0])
    for name, array in OnnxRuntimeRunner(everything)(frames[0]).items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-3, atol=1e-3)


def test_sensitive_layers_stay_in_float_until_the_error_is_reached(
    exported, calibrated, quantized
) -> None:
    export, frames = exported
    measurement = Measurement(calibrated, frames[4:6], Candidates.of(export.config))
    errors = quantized.errors
    assert [error.layer for error in errors] == list(calibrated.layers)
    whole = measurement.error([]).score
    assert choose_float_layers(measurement, errors, whole * 1.01) == []
    chosen = choose_float_layers(measurement, errors, whole * 0.7)
    assert 0 < len(chosen) <= len(errors)
    assert chosen[0] == max(errors, key=lambda error: error.alone.score).layer
    assert measurement.error(chosen).score <= whole * 0.7


def test_predictions_are_the_convolutions_of_the_heads(exported) -> None:
    export, _ = exported
    names = prediction_tensors(export.model)
    last = {name.rpartition(".")[2] for name in names}
    assert last in (
        {"conv_cls", "conv_box", "conv_dir_cls"},
        {"hm", "center", "center_z", "dim", "rot"},
    )


def test_the_report_names_every_layer(quantized, tmp_path: Path) -> None:
    content = json.loads(quantized.write_report(tmp_path).read_text())
    assert content["options"]["method"] == "minmax"
    assert content["calibration_frames"] == 4
    assert len(content["layers"]) == len(quantized.errors)
    for layer in content["layers"]:
        assert layer["layer"] in quantized.table


def test_the_error_is_told_for_frames_that_neither_calibrated_nor_chose(
    exported, calibrated, quantized
) -> None:
    export, frames = exported
    candidates = Candidates.of(export.config)
    assert quantized.num_told_frames == 2
    told = Measurement(calibrated, frames[6:], candidates).error(quantized.in_float)
    chosen = Measurement(calibrated, frames[4:6], candidates).error(quantized.in_float)
    assert quantized.error == told
    assert quantized.error != chosen
    assert "on 2 further frames" in quantized.table


def test_two_frames_leave_none_to_tell_the_error_on(exported) -> None:
    export, frames = exported
    few = quantize_export(export, frames[:2])
    assert few.num_told_frames == 0
    assert few.error.score >= 0
    assert "for want of others" in few.table


def test_empty_frames_cannot_calibrate(exported) -> None:
    export, frames = exported
    empty = {name: array[:0] for name, array in frames[0].items()}
    with pytest.raises(DataError, match="0 of 3 frames hold points in range, expected 2 or more"):
        quantize_export(export, [empty] * 3)
    with pytest.raises(DataError, match="0 of 0 frames"):
        quantize_export(export, [])


def test_one_frame_with_points_among_empty_ones_is_too_few(exported) -> None:
    export, frames = exported
    empty = {name: array[:0] for name, array in frames[0].items()}
    with pytest.raises(DataError, match="1 of 2 frames"):
        quantize_export(export, [empty, frames[0]])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "min_max"}, "did you mean|minmax"),
        ({"percentile": 20}, "percentile 20"),
        ({"highest_error": 0}, "highest error 0"),
    ],
)
def test_options_out_of_range_are_one_sentence(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        QuantizeOptions(**values)


def test_a_newer_opset_is_refused(exported) -> None:
    export, frames = exported
    newer = onnx.ModelProto()
    newer.CopyFrom(export.model)
    newer.opset_import[0].version = 22
    with pytest.raises(ConfigError, match="opset 22, expected 21 at most"):
        quantize_export(Export(newer, export.config), frames)


def test_without_onnxruntime_a_sentence_names_the_extra(exported, monkeypatch) -> None:
    export, frames = exported
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r'pip install "pcdet_distill\[export\]"'):
        quantize_export(export, frames)
