"""config.json: what is written is read back, and a file that does not fit is refused in words."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from pcdet_distill.errors import DataError
from pcdet_distill.export.config import (
    FORMAT_VERSION,
    ExportConfig,
    HeadSpec,
    NmsGroup,
    PointSpec,
    PostProcessing,
    TensorSpec,
    VoxelSpec,
)


def example_config() -> ExportConfig:
    """A PointPillars of two classes."""
    return ExportConfig(
        format_version=FORMAT_VERSION,
        package_version="0",
        detector="PointPillar",
        layout="boxes",
        stages=("pillar_encoder", "scatter", "backbone_2d", "heads"),
        stages_outside=(),
        checkpoint="student.pth",
        checkpoint_sha256="0" * 64,
        model="model.onnx",
        model_sha256="1" * 64,
        class_names=("Car", "Cyclist"),
        points=PointSpec(
            features=("x", "y", "z", "intensity"),
            range_m=(0.0, -8.0, -3.0, 16.0, 8.0, 1.0),
            scale=(1.0, 1.0, 1.0, 1.0),
        ),
        voxels=VoxelSpec(
            kind="fixed",
            size_m=(0.5, 0.5, 4.0),
            grid=(32, 32, 1),
            max_points=32,
            max_voxels=1000,
        ),
        inputs=(TensorSpec("voxels", "float32", ("P", 32, 4)),),
        outputs=(TensorSpec("boxes", "float32", (4096, 7)),),
        heads=(HeadSpec("boxes", "scores", None, (1, 2), None),),
        post_processing=PostProcessing(
            score_threshold=0.1,
            keeps_equal=True,
            centre_range_m=None,
            nms=(NmsGroup((0,), None, "rotated", 0.01, 4096, 500),),
        ),
    )


def written(tmp_path: Path) -> tuple[Path, dict]:
    path = tmp_path / "config.json"
    example_config().to_json(path)
    return path, json.loads(path.read_text())


def test_what_is_written_is_read_back(tmp_path):
    path, _ = written(tmp_path)
    assert ExportConfig.from_json(path) == example_config()


def test_velocities_and_missing_limits_are_read_back(tmp_path):
    config = example_config()
    group = dataclasses.replace(config.post_processing.nms[0], label=2, pre_maxsize=None)
    voxels = dataclasses.replace(config.voxels, kind="dynamic", max_points=None, max_voxels=None)
    post = dataclasses.replace(
        config.post_processing, centre_range_m=(0.0, 1.0, 2.0, 3.0, 4.0, 5.0), nms=(group,)
    )
    config = dataclasses.replace(config, voxels=voxels, post_processing=post)
    config.to_json(tmp_path / "config.json")
    assert ExportConfig.from_json(tmp_path / "config.json") == config


def test_the_scale_of_intensities_is_read_back_and_may_be_missing(tmp_path):
    config = example_config()
    points = dataclasses.replace(config.points, largest_intensity=255.0)
    dataclasses.replace(config, points=points).to_json(tmp_path / "config.json")
    read = ExportConfig.from_json(tmp_path / "config.json")
    assert read.points.largest_intensity == 255.0
    content = json.loads((tmp_path / "config.json").read_text())
    del content["points"]["largest_intensity"]  # as in files of older versions
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert ExportConfig.from_json(tmp_path / "config.json") == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(format_version=99), "format_version is 99, expected 1"),
        (lambda content: content.pop("points"), "'points' is missing"),
        (lambda content: content["points"].update(rang_m=[]), "unknown key 'rang_m'"),
        (
            lambda content: content["voxels"].update(max_points="many"),
            "voxels: max_points is 'many",
        ),
        (lambda content: content["points"].update(range_m=3), "range_m is 3, expected a list"),
        (lambda content: content.update(heads=["boxes"]), r"heads\[0\] is 'boxes', expected the"),
        (lambda content: content["heads"][0].update(boxes=None), r"heads\[0\]: boxes is None"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, change, message):
    path, content = written(tmp_path)
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        ExportConfig.from_json(path)


def test_no_file_no_json_no_folder(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        ExportConfig.from_json(tmp_path / "config.json")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(DataError, match="is no JSON"):
        ExportConfig.from_json(tmp_path / "config.json")
    with pytest.raises(DataError, match="cannot be written"):
        example_config().to_json(tmp_path / "absent" / "config.json")
