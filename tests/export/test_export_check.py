"""Exported networks compute what their checkpoints compute; broken ones are caught and named."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from small_exports import DENSE_PARTS, NUSCENES, PILLARS, batches, save, small_detector
from torch import nn

from pcdet_distill.errors import ConfigError
from pcdet_distill.export.boxes import final_boxes
from pcdet_distill.export.check import ExportError, check_export, first_difference
from pcdet_distill.export.exporter import Export, export_detector, model_bytes
from pcdet_distill.export.reference import run_reference
from pcdet_distill.export.runners import OnnxRuntimeRunner

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

SEEDS = (3, 4, 5)


@pytest.fixture(scope="module", params=[*PILLARS, *DENSE_PARTS, *NUSCENES])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """A detector of each kind, its clouds and its export."""
    detector, points = small_detector(request.param)
    checkpoint = save(detector, tmp_path_factory.mktemp("export") / "model.pth")
    return request.param, detector, points, export_detector(detector, checkpoint)


def test_boxes_are_those_of_the_checkpoint_on_frames_it_never_saw(exported) -> None:
    kind, detector, points, export = exported
    report = check_export(detector, export, batches(detector, points, SEEDS))
    assert report.worst.error < 1e-4
    assert report.num_boxes > 10
    # The three frames, and the first with no pillar and with one.
    assert report.num_frames == 5
    if kind in PILLARS:
        assert report.pillars is not None and report.pillars[0] == 0 and report.pillars[1] > 100


def test_outputs_are_those_of_the_checkpoint(exported) -> None:
    """Without the code of the check: plain differences, headings by their directions."""
    _, detector, points, export = exported
    runner = OnnxRuntimeRunner(export.model)
    batch = detector.batch(points(7))
    reference = run_reference(detector.model, batch, export.config.heads)
    outputs = runner(reference.inputs)
    shapes = {spec.name: spec.shape for spec in export.config.outputs}
    assert {name: array.shape for name, array in outputs.items()} == shapes
    for head in export.config.heads:
        if head.labels is not None:
            np.testing.assert_allclose(
                outputs[head.scores], reference.outputs[head.scores], atol=1e-4
            )
            continue
        expected, found = reference.outputs[head.boxes], outputs[head.boxes]
        np.testing.assert_allclose(found[:, :6], expected[:, :6], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found[:, 7:], expected[:, 7:], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(np.sin(2 * found[:, 6]), np.sin(2 * expected[:, 6]), atol=2e-4)
        np.testing.assert_allclose(outputs[head.scores], reference.outputs[head.scores], atol=1e-4)


def test_final_boxes_are_those_of_the_detector(exported) -> None:
    """The rules of config.json on the checkpoint's own outputs give the checkpoint's boxes."""
    _, detector, points, export = exported
    batch = detector.batch(points(8))
    reference = run_reference(detector.model, batch, export.config.heads)
    found = final_boxes(reference.outputs, export.config)
    predictions, _ = detector.model(detector.batch(points(8)))
    assert len(found.boxes) > 3
    np.testing.assert_array_equal(found.boxes, predictions[0]["pred_boxes"].detach().numpy())
    np.testing.assert_array_equal(found.scores, predictions[0]["pred_scores"].detach().numpy())
    np.testing.assert_array_equal(found.labels, predictions[0]["pred_labels"].numpy())


def test_the_file_is_clean_and_the_same_every_time(exported, tmp_path: Path) -> None:
    _, detector, _, export = exported
    onnx.checker.check_model(export.model, full_check=True)
    assert not any(tensor.external_data for tensor in export.model.graph.initializer)
    again = export_detector(detector, save(detector, tmp_path / "again.pth"))
    assert model_bytes(again.model) == model_bytes(export.model)
    assert again.config.model_sha256 == export.config.model_sha256
    names = {output.name for output in export.model.graph.output}
    assert names == {spec.name for spec in export.config.outputs}
    for head in export.config.heads:
        assert {head.boxes, head.scores} <= names


def small_export(tmp_path: Path, kind: str = "point_pillars"):
    detector, points = small_detector(kind)
    return detector, points, export_detector(detector, save(detector, tmp_path / "model.pth"))


def tampered(export: Export, reader: str) -> Export:
    """The export with another weight in the node whose output is ``reader``."""
    model = onnx.ModelProto()
    model.CopyFrom(export.model)
    node = next(node for node in model.graph.node if reader in node.output)
    for constant in model.graph.initializer:
        if constant.name == node.input[1]:
            weight = onnx.numpy_helper.to_array(constant).copy()
            weight += 0.5
            constant.CopyFrom(onnx.numpy_helper.from_array(weight, constant.name))
    return Export(model, export.config)


@pytest.mark.parametrize(
    "tensor", ["backbone_2d.blocks.0.2", "backbone_2d.deblocks.1.1", "dense_head.conv_box"]
)
def test_a_changed_weight_is_caught_and_its_tensor_named(tmp_path: Path, tensor: str) -> None:
    detector, points, export = small_export(tmp_path)
    broken = tampered(export, tensor)
    with pytest.raises(ExportError) as error:
        check_export(detector, broken, batches(detector, points, SEEDS))
    message = str(error.value)
    assert f"the first tensor that differs is '{tensor}', by " in message
    assert "expected 0.0001 at most" in message


def test_a_changed_encoder_is_named(tmp_path: Path) -> None:
    detector, points, export = small_export(tmp_path)
    encoder = next(node for node in export.model.graph.node if node.op_type == "MatMul")
    broken = tampered(export, encoder.output[0])
    with pytest.raises(ExportError, match="vfe@pillar_features"):
        check_export(detector, broken, batches(detector, points, SEEDS))


def test_nothing_differs_in_a_network_as_it_was_exported(tmp_path: Path) -> None:
    detector, points, export = small_export(tmp_path)
    batch = detector.batch(points(3))
    reference = run_reference(detector.model, batch, export.config.heads)
    assert first_difference(detector.model, export.model, batch, reference.inputs) is None


def test_another_direction_is_caught_by_the_final_boxes(tmp_path: Path) -> None:
    """Raw headings are compared within a bin; a network that turns every box is still refused."""
    detector, points, export = small_export(tmp_path)
    model = onnx.ModelProto()
    model.CopyFrom(export.model)
    for node in model.graph.node:
        if node.op_type == "ArgMax":
            node.op_type = "ArgMin"
    with pytest.raises(ExportError, match="of .* headings"):
        check_export(detector, Export(model, export.config), batches(detector, points, SEEDS))


def test_other_rules_than_the_checkpoints_are_caught(tmp_path: Path) -> None:
    detector, points, export = small_export(tmp_path)
    rules = export.config.post_processing
    group = dataclasses.replace(rules.nms[0], threshold=0.5)
    rules = dataclasses.replace(rules, nms=(group,))
    config = dataclasses.replace(export.config, post_processing=rules)
    with pytest.raises(
        ExportError, match="boxes are not the checkpoint's: .* missing, first a .* unexpected"
    ):
        check_export(detector, Export(export.model, config), batches(detector, points, SEEDS))


def test_no_frame_is_an_error(tmp_path: Path) -> None:
    detector, _, export = small_export(tmp_path)
    with pytest.raises(ExportError, match="no frames"):
        check_export(detector, export, [])


@pytest.mark.parametrize("opset", [18, 21])
def test_older_operators_give_the_same_boxes(tmp_path: Path, opset: int) -> None:
    for kind in ("point_pillars", "dynamic_pillars", "two_center_heads"):
        detector, points = small_detector(kind)
        checkpoint = save(detector, tmp_path / f"{kind}.pth")
        export = export_detector(detector, checkpoint, opset=opset)
        assert export.model.opset_import[0].version == opset
        check_export(detector, export, batches(detector, points, SEEDS))


@pytest.mark.parametrize("opset", [17, 99])
def test_unknown_operators_are_refused(tmp_path: Path, opset: int) -> None:
    detector, _ = small_detector("point_pillars")
    with pytest.raises(ConfigError, match=f"--opset {opset}: expected 18 to"):
        export_detector(detector, save(detector, tmp_path / "model.pth"), opset=opset)


def test_thresholds_of_the_detector_are_those_of_the_export(tmp_path: Path) -> None:
    detector, points = small_detector("center")
    detector.settings = detector.settings.changed({"score_threshold": 0.3, "nms_threshold": 0.4})
    export = export_detector(detector, save(detector, tmp_path / "model.pth"))
    assert export.config.post_processing.score_threshold == 0.3
    assert export.config.post_processing.nms[0].threshold == 0.4
    report = check_export(detector, export, batches(detector, points, SEEDS))
    assert report.num_boxes > 0


def test_a_detector_whose_scores_are_all_equal_is_no_fault(tmp_path: Path) -> None:
    """Which of a hundred equal boxes are kept is then decided by rounding alone."""
    detector, points = small_detector("point_pillars")
    nn.init.normal_(detector.model.dense_head.conv_cls.weight, std=1e-6)
    nn.init.zeros_(detector.model.dense_head.conv_cls.bias)
    export = export_detector(detector, save(detector, tmp_path / "model.pth"))
    report = check_export(detector, export, batches(detector, points, SEEDS))
    assert report.num_boxes + report.num_excused > 10
