"""Folders in the layout of Hugging Face, and names on the hub from its cache, without a network."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from small_detectors import CONFIG, random_cloud

from pcdet_distill.checkpoint import load_checkpoint
from pcdet_distill.errors import CheckpointError, ConfigError
from pcdet_distill.inference import load_detector

REVISION = "0123456789abcdef0123456789abcdef01234567"


def write_folder(folder: Path, checkpoint: Path, repo: Path) -> Path:
    """A folder of the hub: the yaml with its base files merged, and the weights."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    state = load_checkpoint(checkpoint)["model_state"]
    save_file(
        {key: value.contiguous() for key, value in state.items()}, folder / "model.safetensors"
    )
    (folder / "config.yaml").write_text((repo / "cfgs" / CONFIG).read_text())
    return folder


@pytest.fixture
def folder(tmp_path: Path, checkpoint: Path, repo: Path) -> Path:
    pytest.importorskip("safetensors")
    return write_folder(tmp_path / "small", checkpoint, repo)


def test_a_folder_brings_yaml_and_weights(folder, detector, checkpoint, device) -> None:
    expected = detector(random_cloud())
    for arguments in ((folder,), (str(folder),), (CONFIG, folder), (folder, checkpoint)):
        found = load_detector(*arguments, device=device)(random_cloud())
        np.testing.assert_array_equal(found.boxes, expected.boxes)


def test_a_folder_without_its_files_is_named(folder) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="holds no model.safetensors; expected a folder as"):
        load_detector(folder)


def test_a_name_of_the_hub_is_found_in_the_cache(
    tmp_path, checkpoint, repo, detector, monkeypatch, device
) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    pytest.importorskip("safetensors")
    cache = tmp_path / "cache"
    of_name = cache / "models--user--small"
    write_folder(of_name / "snapshots" / REVISION, checkpoint, repo)
    (of_name / "refs").mkdir()
    (of_name / "refs" / "main").write_text(REVISION)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    expected = detector(random_cloud())
    for name in ("hf://user/small", f"hf://user/small@{REVISION}"):
        found = load_detector(name, device=device)(random_cloud())
        np.testing.assert_array_equal(found.boxes, expected.boxes)
    with pytest.raises(CheckpointError, match="hf://user/large: cannot be downloaded") as error:
        load_detector("hf://user/large")
    assert "\n" not in str(error.value)


def test_what_is_no_name_of_the_hub_is_said(monkeypatch) -> None:
    with pytest.raises(CheckpointError, match="hf://small: expected hf://user/name"):
        load_detector("hf://small")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(CheckpointError, match=r'pip install "pcdet_distill\[hub\]"'):
        load_detector("hf://user/small")


def test_a_folder_of_yaml_files_is_no_model(repo) -> None:
    with pytest.raises((CheckpointError, ConfigError), match="holds no config.yaml and no model"):
        load_detector(repo / "cfgs")
