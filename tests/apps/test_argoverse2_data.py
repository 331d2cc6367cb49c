"""``pcdet-distill data argoverse2``: from a folder or a yaml to info files, and wrong input."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_argoverse2 import write_folder, write_log

from pcdet_distill.cli import main
from pcdet_distill.config import load_config
from pcdet_distill.datasets import build_dataset


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "argo2")


def run(*arguments: object) -> None:
    main(["data", "argoverse2", *map(str, arguments)])


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that wrong input gets."""
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, error
    return lines[0]


def test_a_folder_is_enough(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(folder, "--workers", 1)
    text = capsys.readouterr().out
    assert f"{folder}: infos of 5 train, 2 val, 1 test frames" in text
    assert "objects in gt_database: 5 Bus, 5 Pedestrian" in text
    config = load_config("cfgs/argo2_models/centerpoint_pillar.yaml")
    config.DATA_CONFIG.DATA_PATH = str(folder)
    dataset = build_dataset(config.DATA_CONFIG, config.CLASS_NAMES, training=False)
    assert len(dataset) == 2


def test_a_yaml_with_changed_values(folder: Path, tmp_path: Path) -> None:
    base = "_BASE_CONFIG_: cfgs/dataset_configs/argoverse2_dataset.yaml"
    yaml = tmp_path / "mine.yaml"
    yaml.write_text(f"{base}\nDATA_PATH: {folder}\n")
    run(yaml, "--workers", 1, "--set", "MAX_SWEEPS", 3)
    config = load_config(yaml, ["MAX_SWEEPS", "3"])
    dataset = build_dataset(config, ["Bus"], training=False)
    assert len(dataset.argo2_infos[1]["sweeps"]) == 1


def test_the_share_for_validation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_log(tmp_path, 4)
    run(tmp_path, "--val_share", 0.5, "--workers", 1)
    assert "infos of 2 train, 2 val frames" in capsys.readouterr().out


def test_a_share_of_everything_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, folder, "--val_share", 1)
    assert "--val_share: expected a number between 0 and 1, found 1.0" in message


def test_an_empty_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no sweeps found; expected Argoverse 2 as sensor/" in refused(capsys, tmp_path)


def test_a_yaml_of_a_missing_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(
        capsys,
        "cfgs/argo2_models/centerpoint_pillar.yaml",
        "--set",
        "DATA_CONFIG.DATA_PATH",
        tmp_path / "nowhere",
    )
    assert "nowhere" in message


def test_a_misspelt_key_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "MAX_SWEPS" in refused(capsys, folder, "--set", "MAX_SWEPS", 3)
