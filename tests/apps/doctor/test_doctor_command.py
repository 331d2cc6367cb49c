"""The command: exit codes, --fix and --out, on a folder of KITTI's layout."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from pcdet_distill.cli import doctor
from pcdet_distill.datasets.kitti.kitti_infos import create_kitti_infos
from pcdet_distill.datasets.synthetic import create_synthetic_kitti

YAML = "cfgs/synthetic/pointpillar_teacher.yaml"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kitti")
    create_synthetic_kitti(str(root), 12, 3, val_frames=4, workers=1)
    create_kitti_infos(root, 1)
    return root


def run(*words: object) -> int:
    """Exit code of the command."""
    try:
        doctor([str(word) for word in words])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_a_healthy_folder_has_exit_code_0_and_a_page(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    assert run("--cfg_file", YAML, "--out", tmp_path, "--set", "DATA_PATH", folder) == 0
    assert "0 errors, 0 warnings" in capsys.readouterr().out
    page = (tmp_path / "doctor.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") >= 5
    assert "http://" not in page and "https://" not in page
    assert "All objects in their boxes" in page


def test_errors_have_exit_code_1_and_the_fix_has_none(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fixed = tmp_path / "fixed.yaml"
    limits = "[0,-12.8,1,44.8,12.8,5]"
    words = ["--skip_model", "--fix", fixed, "--set", "POINT_CLOUD_RANGE", limits]
    assert run("--cfg_file", YAML, *words, "DATA_PATH", folder) == 1
    assert "error    ranges: DATA_CONFIG.POINT_CLOUD_RANGE" in capsys.readouterr().out
    assert run("--cfg_file", fixed, "--skip_model") == 0


def test_the_yaml_of_a_dataset_alone_is_examined(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--cfg_file", "cfgs/synthetic/dataset.yaml", "--set", "DATA_PATH", folder]
    assert run(*words) == 0
    assert "classes: Car" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ("--cfg_file", "no_such.yaml"),
        ("--cfg_file", YAML, "--frames", "-1"),
        ("--cfg_file", YAML, "--set", "DATA_PATH", "no_such_folder"),
    ],
)
def test_what_cannot_be_examined_has_exit_code_2(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1


def test_a_missing_checkpoint_has_exit_code_2(folder: Path) -> None:
    words = ["--cfg_file", YAML, "--ckpt", "no_such.pth", "--set", "DATA_PATH", folder]
    assert run(*words) == 2


def test_objects_that_kittis_evaluation_ignores_are_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = folder / "kitti_infos_val.pkl"
    infos = pickle.loads(file.read_bytes())
    healthy = file.read_bytes()
    for info in infos:
        info["annos"]["bbox"][:] = 0
    file.write_bytes(pickle.dumps(infos))
    words = ["--cfg_file", YAML, "--skip_model", "--set", "DATA_PATH", folder]
    code = run(*words)
    file.write_bytes(healthy)
    assert code == 1
    assert "KITTI's evaluation ignores them" in " ".join(capsys.readouterr().out.split())


def test_a_database_of_objects_without_difficulty_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = folder / "kitti_dbinfos_train.pkl"
    healthy = file.read_bytes()
    objects = pickle.loads(healthy)
    for infos in objects.values():
        for info in infos:
            info["difficulty"] = -1
    file.write_bytes(pickle.dumps(objects))
    code = run("--cfg_file", YAML, "--skip_model", "--set", "DATA_PATH", folder)
    text = " ".join(capsys.readouterr().out.split())
    file.unlink()
    missing = run("--cfg_file", YAML, "--skip_model", "--set", "DATA_PATH", folder)
    file.write_bytes(healthy)
    assert code == 1 and "the filters leave 0 of" in text
    assert missing == 1 and "sampling" in capsys.readouterr().out
