"""Files and folders are found near the file that names them, in the working directory, in cfgs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from pcdet_distill.config import find_file, load_config, paths, resolve_data_path
from pcdet_distill.errors import ConfigError

MINE = """
_BASE_CONFIG_: {base}
DATA_CONFIG: {{DATA_PATH: {data_path}}}
"""


def write(folder: Path, name: str, text: str = "") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory outside the checkout."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def installed(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an installed package: ``cfgs`` lies inside it, and no checkout around it."""
    package = tmp_path / "site-packages" / "pcdet_distill"
    shutil.copytree(repo / "cfgs", package / "cfgs")
    monkeypatch.setattr(paths, "PACKAGE", package)
    return package


# --- files ----------------------------------------------------------------------------------------


def test_find_file_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write(tmp_path, "cwd/x.yaml").parent)
    near = write(tmp_path, "a/b/near.yaml")
    assert find_file("x.yaml", near=near) == tmp_path / "cwd" / "x.yaml"
    expected = [
        write(tmp_path, f"{place}/x.yaml") for place in ("tools", ".", "a/tools", "a", "a/b")
    ]
    found = []
    for path in reversed(expected):
        found.append(find_file("x.yaml", near=near))
        path.unlink()
    assert found == [path.resolve() for path in reversed(expected)]


@pytest.mark.parametrize("name", ["kitti_models/second.yaml", "cfgs/kitti_models/second.yaml"])
def test_our_own_files_are_found_by_name_from_any_folder(
    repo: Path, elsewhere: Path, name: str
) -> None:
    assert find_file(name, near=elsewhere) == repo / "cfgs" / "kitti_models" / "second.yaml"
    assert repo == load_config(name).ROOT_DIR


@pytest.mark.parametrize("name", ["kitti_models/second.yaml", "cfgs/kitti_models/second.yaml"])
def test_an_installed_package_brings_its_files(installed: Path, elsewhere: Path, name: str) -> None:
    file = installed / "cfgs" / "kitti_models" / "second.yaml"
    assert find_file(name, near=elsewhere) == file
    cfg = load_config(name)
    assert str(file) == cfg.CONFIG_FILE
    assert (elsewhere, "kitti_models") == (cfg.ROOT_DIR, cfg.EXP_GROUP_PATH)
    assert cfg.DATA_CONFIG.DATASET == "KittiDataset", "its base file is found, too"


def test_data_and_output_belong_to_the_checkout(repo: Path, elsewhere: Path) -> None:
    assert paths.project_folder() == repo


def test_without_a_checkout_they_belong_to_the_working_directory(
    installed: Path, elsewhere: Path
) -> None:
    assert paths.project_folder() == elsewhere
    (installed.parent / "cfgs").mkdir()
    assert paths.project_folder() == elsewhere, "another package may have installed a cfgs folder"


def test_a_missing_file_is_answered_with_the_nearest_of_ours(elsewhere: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such file .*; did you mean 'second\.yaml'\?"):
        load_config("kitti_models/secnd.yaml")


# --- DATA_PATH ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "suggested"),
    [
        ("pointpillar_16x_init.yaml", "'kitti_distill/pointpillar_16x_init.yaml'"),
        ("kitti_modls/second.yaml", "'kitti_models/second.yaml'"),
        ("pointpilar_16x_init.yaml", "'kitti_distill/pointpillar_16x_init.yaml'"),
        ("synthetic/hard/pointpillar_4x_soft.yaml", "'pointpillar_4x_soft_targets.yaml'"),
        ("privileged/beams.yaml", "'synthetic/privileged/beams_init.yaml'"),
        ("hard/pointpilar_4x.yaml", "'synthetic/hard/pointpillar_4x.yaml' or"),
        ("kitti_distil/pointpilar_4x.yaml", "'kitti_distill/pointpillar_4x.yaml' or"),
        (
            "pointpillar_4x_soft_targets.yaml",
            "'kitti_distill/pointpillar_4x_soft_targets.yaml' or "
            "'synthetic/hard/pointpillar_4x_soft_targets.yaml'",
        ),
    ],
)
def test_a_missing_file_is_looked_for_in_all_of_cfgs(
    elsewhere: Path, typed: str, suggested: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"did you mean {suggested}")):
        paths.find_file(typed, near=elsewhere)


def test_data_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "root"
    (root / "tools").mkdir(parents=True)
    assert resolve_data_path("/abs/kitti", root) == Path("/abs/kitti")
    assert resolve_data_path("../data/kitti", root) == root / "data" / "kitti"
    (root / "data" / "kitti").mkdir(parents=True)
    assert resolve_data_path("../data/kitti", root) == root / "data" / "kitti"
    assert resolve_data_path("data/kitti", root) == root / "data" / "kitti"
    (tmp_path / "data" / "kitti").mkdir(parents=True)
    assert resolve_data_path("data/kitti", root) == tmp_path / "data" / "kitti"


def test_openpcdets_data_path_needs_no_tools_folder(elsewhere: Path) -> None:
    (elsewhere / "data" / "kitti").mkdir(parents=True)
    found = resolve_data_path("../data/kitti", elsewhere)
    assert found == elsewhere / "data" / "kitti"


def data_path(cfg_file: Path, *overrides: str) -> Path:
    """The folder that a training with this file would read."""
    cfg = load_config(cfg_file, overrides)
    return resolve_data_path(cfg.DATA_CONFIG.DATA_PATH, cfg.ROOT_DIR)


def test_data_beside_a_yaml_outside_any_checkout(tmp_path: Path, elsewhere: Path) -> None:
    text = MINE.format(base="kitti_models/second.yaml", data_path="clouds")
    mine = write(tmp_path, "experiments/mine.yaml", text)
    (tmp_path / "experiments" / "clouds").mkdir()
    assert data_path(mine) == tmp_path / "experiments" / "clouds"


def test_data_of_a_base_file_in_another_checkout(
    repo: Path, tmp_path: Path, elsewhere: Path
) -> None:
    other = tmp_path / "OpenPCDet"
    shutil.copytree(repo / "cfgs", other / "tools" / "cfgs")
    (other / "data" / "kitti").mkdir(parents=True)
    base = other / "tools" / "cfgs" / "kitti_models" / "second.yaml"
    mine = write(tmp_path, "experiments/mine.yaml", f"_BASE_CONFIG_: {base}\n")
    assert data_path(mine) == other / "data" / "kitti"


def test_the_working_directory_comes_first(tmp_path: Path, elsewhere: Path) -> None:
    text = MINE.format(base="kitti_models/second.yaml", data_path="clouds")
    mine = write(tmp_path, "experiments/mine.yaml", text)
    (tmp_path / "experiments" / "clouds").mkdir()
    (elsewhere / "clouds").mkdir()
    assert data_path(mine) == elsewhere / "clouds"


def test_a_path_typed_after_set_starts_from_the_working_directory(
    tmp_path: Path, elsewhere: Path
) -> None:
    text = MINE.format(base="kitti_models/second.yaml", data_path="clouds")
    mine = write(tmp_path, "experiments/mine.yaml", text)
    (tmp_path / "experiments" / "other").mkdir()
    (elsewhere / "other").mkdir()
    assert data_path(mine, "DATA_PATH", "other") == elsewhere / "other"


def test_the_text_stays_where_nothing_is_found(tmp_path: Path, elsewhere: Path) -> None:
    text = MINE.format(base="kitti_models/second.yaml", data_path="nowhere/at/all")
    mine = write(tmp_path, "experiments/mine.yaml", text)
    assert load_config(mine).DATA_CONFIG.DATA_PATH == "nowhere/at/all"
