"""What is loaded, and the sentences for what cannot be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_detectors import CONFIG, random_cloud, write_checkpoint

from pcdet_distill.checkpoint import load_checkpoint
from pcdet_distill.config import load_config
from pcdet_distill.errors import CheckpointError, ConfigError, DataError, UserError
from pcdet_distill.inference import InputWarning, load, load_detector


def test_a_student_loads_without_its_teacher(tmp_path: Path, device: torch.device) -> None:
    student = "synthetic/recipes/graph.yaml"
    assert load_config(student).DISTILL
    ckpt = write_checkpoint(tmp_path / "student.pth", student)
    assert len(load_detector(student, ckpt, device=device)(random_cloud())) > 0


def test_a_loaded_config_and_a_path_give_the_same(checkpoint, detector, repo, device) -> None:
    expected = detector(random_cloud())
    for cfg in (load_config(CONFIG), repo / "cfgs" / CONFIG, str(repo / "cfgs" / CONFIG)):
        found = load_detector(cfg, checkpoint, device=device)(random_cloud())
        np.testing.assert_array_equal(found.boxes, expected.boxes)


def test_a_detector_may_be_compiled(checkpoint, monkeypatch) -> None:
    compiled = []

    def compile_at_once(model, device, flag) -> None:
        compiled.append((model, device.type, flag))

    monkeypatch.setattr(load, "compile_dense_part", compile_at_once)
    load_detector(CONFIG, checkpoint, device="cpu")
    assert compiled == []
    detector = load_detector(CONFIG, checkpoint, device="cpu", compile=True)
    assert compiled == [(detector.model, "cpu", "compile=True")]


def test_a_checkpoint_of_openpcdet_loads(checkpoint, detector, tmp_path, device) -> None:
    """It has more entries, prefixes of distributed training, and no count of steps."""
    state = load_checkpoint(checkpoint)["model_state"]
    state = {f"module.{key}": value for key, value in state.items() if key != "global_step"}
    content = {"epoch": 80, "it": 296960, "model_state": state, "version": "pcdet+0.6.0"}
    torch.save(content, tmp_path / "openpcdet.pth")
    found = load_detector(CONFIG, tmp_path / "openpcdet.pth", device=device)(random_cloud())
    np.testing.assert_array_equal(found.boxes, detector(random_cloud()).boxes)


def test_a_checkpoint_of_another_yaml_is_named(tmp_path: Path, device: torch.device) -> None:
    ckpt = write_checkpoint(tmp_path / "teacher.pth", "synthetic/pointpillar_teacher.yaml")
    with pytest.raises(CheckpointError) as error:
        load_detector(CONFIG, ckpt, device=device)
    text = str(error.value)
    assert "teacher.pth: does not fit the model" in text
    assert "vfe.pfn_layers.0.linear.weight" in text
    assert text.endswith("; it fits cfgs/synthetic/pointpillar_teacher.yaml")


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"cfg": "synthetic/dataset.yaml"}, ConfigError, "expected the yaml of a detector"),
        ({"cfg": "synthetic/pointpilar.yaml"}, ConfigError, "no such file"),
        ({"ckpt": None}, ConfigError, "expected a checkpoint too"),
        ({"ckpt": "nowhere.pth"}, CheckpointError, "nowhere.pth: no such checkpoint"),
        ({"device": "gpu"}, ConfigError, "device gpu: unknown device"),
        ({"divide_intensity": 0}, ConfigError, "divide_intensity 0: expected more than 0"),
        ({"batch_size": 0}, ConfigError, "batch_size 0: expected 1 or more"),
        ({"max_boxes": 0}, ConfigError, "max_boxes 0"),
    ],
)
def test_what_cannot_be_loaded_is_one_sentence(checkpoint, change, error, words) -> None:
    arguments = {"cfg": CONFIG, "ckpt": checkpoint, "device": "cpu", **change}
    with pytest.raises(error, match=words) as raised:
        load_detector(**arguments)
    assert isinstance(raised.value, UserError)
    assert "\n" not in str(raised.value)


def test_three_columns_are_filled_and_told(detector) -> None:
    points = random_cloud()
    with pytest.warns(InputWarning, match="has no intensity, which the model reads: 0 stands in"):
        found = detector(points[:, :3])
    points[:, 3] = 0
    np.testing.assert_array_equal(found.boxes, detector(points).boxes)


def test_three_columns_can_be_refused(checkpoint, device) -> None:
    detector = load_detector(CONFIG, checkpoint, device=device, fill_missing=None)
    with pytest.raises(DataError, match="has no column 'intensity'"):
        detector(random_cloud()[:, :3])


def test_five_columns_are_cut_and_told(detector) -> None:
    points = random_cloud()
    wide = np.column_stack([points, np.arange(len(points))])
    with pytest.warns(InputWarning, match="has 5 columns, but the model reads 4"):
        found = detector(wide)
    np.testing.assert_array_equal(found.boxes, detector(points).boxes)


def test_columns_in_another_order_are_named(checkpoint, detector, device) -> None:
    columns = ["intensity", "z", "y", "x"]
    turned = load_detector(CONFIG, checkpoint, device=device, columns=columns)
    points = random_cloud()
    found = turned(points[:, ::-1])
    np.testing.assert_array_equal(found.boxes, detector(points).boxes)
    with pytest.raises(DataError, match="has 3 columns, expected the 4 that 'columns' names"):
        turned(points[:, :3])


def test_a_warning_comes_once_for_its_kind(checkpoint, device) -> None:
    told: list[str] = []
    detector = load_detector(CONFIG, checkpoint, device=device, tell=told.append)
    bright = random_cloud() * np.float32([1, 1, 1, 255])
    detector([bright, bright])
    detector(bright)
    assert len(told) == 1
    assert "points[0]: its intensities look like 0..255" in told[0]
    assert "; divide_intensity 255 converts them" in told[0]
    points = random_cloud()
    points[3] = np.nan
    detector(points)
    assert told[1] == "points: 1 of 800 points hold NaN or infinity, left out"


def test_a_warning_comes_again_for_another_folder(
    checkpoint, tmp_path: Path, device: torch.device
) -> None:
    told: list[str] = []
    detector = load_detector(CONFIG, checkpoint, device=device, tell=told.append)
    bright = random_cloud() * np.float32([1, 1, 1, 255])
    files = []
    for name in ("front/a.bin", "front/b.bin", "rear/a.bin"):
        files.append(tmp_path / name)
        files[-1].parent.mkdir(exist_ok=True)
        bright.tofile(files[-1])
    detector(files)
    detector(tmp_path / "front")
    assert [words.split(":")[0] for words in told] == [str(files[0]), str(files[2])]
    detector(bright)
    assert told[2].startswith("points: ")
    assert len(told) == 3


def test_intensities_are_divided(checkpoint, detector, device) -> None:
    divided = load_detector(CONFIG, checkpoint, device=device, divide_intensity=255)
    points = random_cloud()
    bright = points * np.float32([1, 1, 1, 255])
    found = divided(bright)
    np.testing.assert_allclose(found.boxes, detector(points).boxes, atol=1e-4)
