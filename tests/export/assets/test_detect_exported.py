"""Exported folders, run by detect.py: the boxes are those of the checkpoint, frame by frame."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from small_detectors import write_checkpoint

from pcdet_distill.export.config import ExportConfig
from pcdet_distill.export.exporter import export_detector, model_bytes
from pcdet_distill.export.folder import write_runtime_folder
from pcdet_distill.inference import Detector, load_detector

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

ANCHORS = "synthetic/pointpillar_student.yaml"
CENTRES = "synthetic/centerpoint_pillar.yaml"
CENTRES_OF_NUSCENES = "synthetic/nuscenes/centerpoint_student.yaml"


def exported(config: str, folder: Path) -> tuple[Detector, ModuleType]:
    """A small detector, and detect.py as a module of the folder that it was exported to."""
    checkpoint = write_checkpoint(folder / "model.pth", config)
    detector = load_detector(config, checkpoint, device="cpu")
    export = export_detector(detector, checkpoint)
    files = write_runtime_folder(folder / "robot", model_bytes(export.model), export.config)
    names = {file.name for file in files}
    assert names == {"model.onnx", "config.json", "detect.py", "cloud_file.py", "README.md"}
    spec = importlib.util.spec_from_file_location("detect", folder / "robot" / "detect.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return detector, module


def lowest_score(runtime, cloud: np.ndarray, count: int = 200) -> float:
    """A threshold that ``count`` scores pass, halfway to the next one.

    An untrained network gives nearly equal scores to many boxes. Below the best ones rounding would
    decide which come first.
    """
    outputs = runtime.run(runtime.voxelise(cloud))
    scores = [outputs[head["scores"]].ravel() for head in runtime.config["heads"]]
    best = np.sort(np.concatenate(scores))[::-1]
    return float(best[count - 1 : count + 1].mean())


def check_same_boxes(detector: Detector, module: ModuleType, clouds: list[np.ndarray]) -> int:
    """Assert that both find the same; returns how many boxes there were."""
    runtime = module.Detector(threads=1)
    count = 0
    for cloud in clouds:
        threshold = lowest_score(runtime, cloud)
        runtime.config["post_processing"]["score_threshold"] = threshold
        boxes, scores, names = runtime(cloud)
        expected = detector(cloud, score_threshold=threshold)
        assert len(boxes) == len(expected)
        assert (np.diff(scores) <= 0).all()
        rows = np.lexsort(np.round(boxes[:, :3], 2).T)
        expected_rows = np.lexsort(np.round(expected.boxes[:, :3], 2).T)
        np.testing.assert_allclose(boxes[rows], expected.boxes[expected_rows], atol=1e-3)
        np.testing.assert_allclose(scores[rows], expected.scores[expected_rows], atol=1e-5)
        assert [names[row] for row in rows] == list(expected.names[expected_rows])
        count += len(boxes)
    return count


def dense_cloud(seed: int, num_features: int) -> np.ndarray:
    """Points (N, C) in nearly all pillars around the sensor."""
    random = np.random.RandomState(seed)
    points = random.uniform([-51, -51, -3, 0], [51, 51, 1, 1], (150_000, 4))
    return np.pad(points, ((0, 0), (0, num_features - 4))).astype(np.float32)


@pytest.mark.parametrize(
    "config",
    [
        ANCHORS,
        CENTRES,
        CENTRES_OF_NUSCENES,
        "synthetic/nuscenes/pp_multihead_student.yaml",
        "nuscenes_models/cbgs_dyn_pp_centerpoint.yaml",
    ],
)
def test_boxes_are_those_of_the_checkpoint(config: str, tmp_path: Path) -> None:
    detector, module = exported(config, tmp_path)
    num_features = len(module.Detector(threads=1).features)
    clouds = [dense_cloud(seed, num_features) for seed in range(2)]
    assert check_same_boxes(detector, module, clouds) > 10


def test_settings_of_the_detector_are_those_of_the_folder(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "model.pth", ANCHORS)
    detector = load_detector(
        ANCHORS, checkpoint, device="cpu", score_threshold=0.5, nms_threshold=0.3
    )
    export = export_detector(detector, checkpoint)
    post_processing = export.config.post_processing
    assert post_processing.score_threshold == 0.5
    assert [group.threshold for group in post_processing.nms] == [0.3]
    write_runtime_folder(tmp_path / "robot", model_bytes(export.model), export.config)
    assert ExportConfig.from_json(tmp_path / "robot" / "config.json") == export.config


@pytest.mark.parametrize(
    ("config", "divide", "largest"),
    [(ANCHORS, 1.0, 1.0), (ANCHORS, 255.0, 1.0), (CENTRES_OF_NUSCENES, 1.0, 255.0)],
)
def test_the_scale_of_the_learnt_intensities_is_written(
    config: str, divide: float, largest: float, tmp_path: Path
) -> None:
    checkpoint = write_checkpoint(tmp_path / "model.pth", config)
    detector = load_detector(config, checkpoint, device="cpu", divide_intensity=divide)
    points = export_detector(detector, checkpoint).config.points
    assert points.largest_intensity == largest
    assert points.scale[points.features.index("intensity")] == 1 / divide


def test_a_part_of_a_network_comes_without_a_program(tmp_path: Path) -> None:
    config = "synthetic/second_student.yaml"
    checkpoint = write_checkpoint(tmp_path / "model.pth", config)
    detector = load_detector(config, checkpoint, device="cpu")
    export = export_detector(detector, checkpoint)
    files = write_runtime_folder(tmp_path / "part", model_bytes(export.model), export.config)
    assert {file.name for file in files} == {"model.onnx", "config.json", "README.md"}
    assert "sparse_backbone must run before it" in (tmp_path / "part" / "README.md").read_text()
