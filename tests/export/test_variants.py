"""pcdet-distill export --quantize and --layout: files, printed proof, sentences for wrong input."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from layout_detectors import (
    CENTERPOINT,
    POINTPILLAR,
    crowded_cloud,
    make_detector,
    small_config,
)

from pcdet_distill.cli import main
from pcdet_distill.export.check import ExportError
from pcdet_distill.export.exporter import export_detector
from pcdet_distill.export.layouts import LayoutFiles, check_layout, write_layout


@pytest.fixture(scope="module", params=[POINTPILLAR, CENTERPOINT])
def project(request, tmp_path_factory) -> tuple[Path, str]:
    """A yaml, its checkpoint, and clouds; and which detector it is."""
    folder = tmp_path_factory.mktemp("variants")
    cfg = small_config(request.param)
    make_detector(cfg, folder)
    for key in ("CONFIG_FILE", "ROOT_DIR", "TAG", "EXP_GROUP_PATH", "LOCAL_RANK"):
        cfg.pop(key, None)
    plain = json.loads(json.dumps(cfg, default=str))
    (folder / "model.yaml").write_text(yaml.safe_dump(plain))
    (folder / "clouds").mkdir()
    for number in range(8):
        crowded_cloud(number).tofile(folder / "clouds" / f"{number}.bin")
    return folder, request.param


def export(folder: Path, out: Path, *arguments: object) -> None:
    words = ["--cfg_file", folder / "model.yaml", "--ckpt", folder / "model.pth", "--out", out]
    words += ["--data_path", folder / "clouds", "--frames", 2, *arguments]
    main(["export", *(str(word) for word in words)])


def error_of(capsys, folder: Path, out: Path, *arguments: object) -> str:
    with pytest.raises(SystemExit) as stop:
        export(folder, out, *arguments)
    assert stop.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    return lines[0]


def test_int8_writes_a_folder_with_the_measured_layers(project, tmp_path, capsys) -> None:
    folder, _ = project
    out = tmp_path / "int8"
    export(
        folder, out, "--quantize", "int8", "--calibration_path", folder / "clouds",
        "--calibration_frames", 8, "--calibration", "percentile",
    )  # fmt: skip
    text = capsys.readouterr().out
    assert "int8, ranges by percentile of 4 frames" in text
    assert "convolutions in int8" in text
    assert text.count("network alone") == 2
    assert {path.name for path in out.iterdir()} == {
        "model.onnx", "config.json", "detect.py", "cloud_file.py", "README.md", "quantization.json"
    }  # fmt: skip
    report = json.loads((out / "quantization.json").read_text())
    assert report["options"]["method"] == "percentile"


def test_a_layout_is_checked_and_written(project, tmp_path, capsys) -> None:
    folder, name = project
    layout = "autoware" if name == CENTERPOINT else "cuda_pointpillars"
    export(folder, tmp_path / "out", "--layout", layout)
    text = capsys.readouterr().out
    assert "the other program's road gives the same" in text
    assert "note: " in text
    assert len(list((tmp_path / "out").iterdir())) == (4 if name == CENTERPOINT else 3)


def test_wrong_input_is_one_sentence(project, tmp_path, capsys) -> None:
    folder, name = project
    other = "cuda_pointpillars" if name == CENTERPOINT else "autoware"
    out = tmp_path / "out"
    assert "but" in error_of(capsys, folder, out, "--layout", other)
    message = error_of(capsys, folder, out, "--layout", other, "--quantize", "int8")
    assert "--quantize int8: expected --layout boxes" in message
    message = error_of(capsys, folder, out, "--quantize", "int8", "--opset", 23)
    assert "--opset 23: expected 21 at most" in message
    message = error_of(capsys, folder, out, "--calibration_seed", 1)
    assert "--calibration_seed belongs to --quantize int8" in message
    assert not out.exists()


def test_calibration_without_frames_is_one_sentence(project, tmp_path, capsys) -> None:
    folder, _ = project
    out = tmp_path / "out"
    message = error_of(capsys, folder, out, "--quantize", "int8")
    assert "--calibration_path" in message
    outside = tmp_path / "outside"
    outside.mkdir()
    for number in range(4):
        np.full((50, 4), -90, np.float32).tofile(outside / f"{number}.bin")
    message = error_of(capsys, folder, out, "--quantize", "int8", "--calibration_path", outside)
    assert "0 of 4 frames hold points in range" in message
    missing = tmp_path / "missing"
    assert str(missing) in error_of(
        capsys, folder, out, "--quantize", "int8", "--calibration_path", missing
    )
    assert not out.exists()


def test_without_onnxruntime_a_sentence_names_the_extra(project, tmp_path, capsys, monkeypatch):
    folder, _ = project
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    message = error_of(capsys, folder, tmp_path / "out", "--quantize", "int8")
    assert "pcdet_distill[export]" in message


def test_a_layout_with_other_boxes_is_refused(project, tmp_path) -> None:
    """A tampered weight in the file of the layout."""
    folder, name = project
    detector, path = make_detector(small_config(name), tmp_path)
    config = export_detector(detector, path).config
    files = write_layout(
        "autoware" if name == CENTERPOINT else "cuda_pointpillars", detector, config
    )

    def shifted(points, rules=None):
        found = files.program(points, rules)
        return found._replace(boxes=found.boxes + np.float32(0.05))

    batches = [detector.batch(crowded_cloud(number)) for number in range(4)]
    text = check_layout(detector, files, config, batches)
    assert "4 frames" in text and " 0 final" not in text
    with pytest.raises(ExportError, match="more than rounding explains"):
        check_layout(detector, LayoutFiles({}, shifted, ()), config, batches)

    def worse(points, rules=None):
        found = files.program(points, rules)
        return found._replace(scores=found.scores * np.float32(0.99))

    with pytest.raises(ExportError, match="boxes of the checkpoint are missing"):
        check_layout(detector, LayoutFiles({}, worse, ()), config, batches)


def test_help_names_the_flags(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    text = capsys.readouterr().out
    for flag in ("--layout", "--quantize", "--calibration_frames", "--int8_error"):
        assert flag in text
