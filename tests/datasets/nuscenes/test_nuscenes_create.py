"""The command that makes info files and database: splits, partial downloads, wrong input."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_nuscenes import (
    MAX_SWEEPS,
    OBJECT_POINTS,
    TRAFFIC,
    TRAIN_SCENES,
    TinyNuScenes,
    fill,
    make_files,
)

from pcdet_distill.cli import data
from pcdet_distill.datasets.nuscenes.create import create_nuscenes_infos
from pcdet_distill.datasets.nuscenes.folder import NuScenesFolder
from pcdet_distill.errors import DataError

BASE_YAML = "dataset_configs/nuscenes_dataset.yaml"
DATABASE = f"gt_database_{MAX_SWEEPS}sweeps_withvelo"


def create(tiny: TinyNuScenes, **options):
    folder = NuScenesFolder(tiny.data_path, tiny.version)
    return create_nuscenes_infos(folder, MAX_SWEEPS, show_progress=False, **options)


def files_made(root: Path) -> dict[str, object]:
    """The content of info files and of the point files of objects."""
    content: dict[str, object] = {}
    for path in root.glob("gt_database*/*"):
        content[f"{path.parent.name}/{path.name}"] = path.read_bytes()
    for path in root.glob("*.pkl"):
        content[path.name] = pickle.loads(path.read_bytes())
    return content


def check_same(found: dict[str, object], expected: dict[str, object]) -> None:
    """Equal files; NaN equals NaN."""
    np.testing.assert_equal(found, expected)


# ---- The database ----


def test_objects_of_the_database(shared_nus: TinyNuScenes) -> None:
    file = shared_nus.root / f"nuscenes_dbinfos_{MAX_SWEEPS}sweeps_withvelo.pkl"
    objects = pickle.loads(file.read_bytes())
    counts = {name: len(entries) for name, entries in objects.items()}
    assert counts == {"car": 9, "pedestrian": 5, "barrier": 5, "ignore": 5, "truck": 2}
    # A barrier stands still, so its box holds the points of all sweeps.
    barrier = objects["barrier"][2]
    assert barrier["num_points_in_gt"] == MAX_SWEEPS * OBJECT_POINTS
    assert barrier["path"] == f"{DATABASE}/2_barrier_2.bin"
    assert (barrier["image_idx"], barrier["gt_idx"]) == (2, 2)
    points = np.fromfile(shared_nus.root / barrier["path"], np.float32).reshape(-1, 5)
    assert len(points) == barrier["num_points_in_gt"]
    # Relative to the centre of the box, and not turned.
    assert np.abs(points[:, :3]).max() < 1.5
    assert len(np.unique(points[:, 4])) == MAX_SWEEPS
    assert barrier["box3d_lidar"].shape == (9,)


def test_several_processes_write_the_same(shared_nus: TinyNuScenes, tiny_nus: TinyNuScenes) -> None:
    fill(tiny_nus)
    created = create(tiny_nus, workers=2)
    assert created.frames == {"train": 5, "val": 2}
    assert created.objects == 26
    check_same(files_made(tiny_nus.root), files_made(shared_nus.root))


# ---- Which scenes ----


def test_scenes_without_point_files_are_left_out(filled_nus: TinyNuScenes) -> None:
    """As after the download of some of the archives."""
    for path in filled_nus.root.glob(f"*/LIDAR_TOP/{TRAIN_SCENES[1]}*"):
        path.unlink()
    created = create(filled_nus)
    assert created.frames == {"train": 3, "val": 2}
    assert "left out: 1 scenes have no point files" in created.summary()
    assert TRAIN_SCENES[1] in created.summary()


def test_scenes_of_no_split_are_left_out(tiny_nus: TinyNuScenes) -> None:
    """OpenPCDet would validate on them."""
    tiny_nus.scene("scene-0061", TRAFFIC)
    tiny_nus.scene("scene-0003", TRAFFIC)
    tiny_nus.write()
    created = create(tiny_nus)
    assert created.frames == {"train": 3, "val": 0}
    assert "1 scenes are in none of the splits (scene-0003)" in created.summary()


def test_own_splits(tmp_path: Path) -> None:
    tiny = TinyNuScenes(tmp_path, "v1.0-yard")
    tiny.scene("monday", TRAFFIC)
    tiny.scene("tuesday", TRAFFIC, num_samples=2)
    tiny.write()
    splits = {"train": ["monday"], "val": ["tuesday"]}
    tiny.table_file("splits").write_text(json.dumps(splits))
    assert create(tiny).frames == {"train": 3, "val": 2}


def test_the_test_version_has_no_labels(tmp_path: Path) -> None:
    tiny = TinyNuScenes(tmp_path, "v1.0-test")
    tiny.scene("scene-0077", TRAFFIC)
    tiny.tables["sample_annotation"] = []
    tiny.write()
    assert create(tiny).frames == {"test": 3}
    infos = pickle.loads((tiny.root / "nuscenes_infos_4sweeps_test.pkl").read_bytes())
    assert len(infos) == 3
    assert "gt_boxes" not in infos[0]
    assert not list(tiny.root.glob("gt_database*"))


def test_the_devkits_layout(filled_nus: TinyNuScenes) -> None:
    """Point files beside the folder of tables; what is made lies in that folder."""
    before = files_made(filled_nus.root)
    for path in filled_nus.root.glob("*.pkl"):
        path.unlink()
    shutil.rmtree(filled_nus.root / DATABASE)
    base = filled_nus.data_path.parent / "devkit"
    base.mkdir()
    for name in ("samples", "sweeps", "maps", filled_nus.version):
        shutil.move(filled_nus.root / name, base / name)
    folder = NuScenesFolder(base, filled_nus.version)
    create_nuscenes_infos(folder, MAX_SWEEPS, show_progress=False)
    check_same(files_made(base / filled_nus.version), before)


# ---- Wrong input ----


def damage_table(tiny: TinyNuScenes, name: str, change: str) -> None:
    """Damage a table in one of several ways."""
    file = tiny.table_file(name)
    rows = json.loads(file.read_text())
    if change == "delete":
        file.unlink()
    elif change == "truncate":
        file.write_text(file.read_text()[:-20])
    elif change == "empty":
        file.write_text("")
    elif change == "no rows":
        file.write_text("[]")
    elif change.startswith("drop "):
        del rows[0][change.removeprefix("drop ")]
        file.write_text(json.dumps(rows))
    else:
        raise AssertionError(change)


@pytest.mark.parametrize(
    ("table", "change", "words"),
    [
        ("sample", "delete", "sample.json: this table of nuScenes does not exist"),
        ("ego_pose", "delete", "ego_pose.json: nuScenes' table cannot be read"),
        ("sample_data", "truncate", "sample_data.json: this is no complete json file"),
        ("sample_annotation", "empty", "sample_annotation.json: this is no complete json file"),
        ("sensor", "no rows", "sensor.json: no row has the token 'LIDAR_TOP'"),
        ("ego_pose", "no rows", "ego_pose.json: no row has the token"),
        ("scene", "no rows", "no frame is left; the scenes of the tables"),
        ("sample_data", "drop prev", "sample_data.json: the row .* lacks prev"),
        ("sample_annotation", "drop size", "sample_annotation.json: the row .* lacks size"),
        ("category", "drop token", "category.json: expected a list of rows"),
    ],
)
def test_bad_tables_are_named_and_the_old_files_stay(
    filled_nus: TinyNuScenes, table: str, change: str, words: str
) -> None:
    before = files_made(filled_nus.root)
    damage_table(filled_nus, table, change)
    with pytest.raises(DataError, match=words):
        create(filled_nus)
    check_same(files_made(filled_nus.root), before)
    assert not list(filled_nus.root.glob(".create*"))


def test_rows_with_too_few_numbers_are_named(filled_nus: TinyNuScenes) -> None:
    filled_nus.tables["ego_pose"][0]["translation"] = [1.0, 2.0]
    filled_nus.tables["ego_pose"][2]["translation"] = "here"
    filled_nus.write()
    with pytest.raises(DataError, match="rows of sample scene-0061-0 hold what is no number"):
        create(filled_nus)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", [2.0, -4.4, 1.6]),
        ("size", [0.0, 4.4, 1.6]),
        ("translation", [float("nan"), 0.0, 0.0]),
        ("rotation", [0.0, 0.0, 0.0, 0.0]),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_annotations_that_are_no_boxes_are_named(
    filled_nus: TinyNuScenes, field: str, value: list[float]
) -> None:
    row = filled_nus.tables["sample_annotation"][1]
    row[field] = value
    filled_nus.write()
    with pytest.raises(DataError, match=f"the annotation {row['token']} is no box .*{field}"):
        create(filled_nus)


def test_tokens_that_come_twice_are_named(filled_nus: TinyNuScenes) -> None:
    filled_nus.tables["sample"].append(filled_nus.tables["sample"][0])
    filled_nus.write()
    with pytest.raises(DataError, match="sample.json: 2 rows have the token 'scene-0061-0'"):
        create(filled_nus)


def test_a_missing_sweep_is_named(filled_nus: TinyNuScenes) -> None:
    path = next(iter(sorted(filled_nus.root.glob("sweeps/LIDAR_TOP/scene-0103*"))))
    path.unlink()
    with pytest.raises(DataError, match=f"{path.name}: this point file, which the tables list"):
        create(filled_nus)


def test_a_truncated_sweep_is_named(filled_nus: TinyNuScenes) -> None:
    path = sorted(filled_nus.root.glob("sweeps/LIDAR_TOP/scene-0061*"))[-1]
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(DataError, match=f"{path.name}: .* bytes are not a whole number"):
        create(filled_nus)


def test_all_point_files_missing(filled_nus: TinyNuScenes) -> None:
    shutil.rmtree(filled_nus.root / "samples" / "LIDAR_TOP")
    with pytest.raises(DataError, match="point files of all scenes .* are missing; expected them"):
        create(filled_nus)


def run(tiny: TinyNuScenes, *words: str) -> None:
    settings = ["--set", "DATA_PATH", str(tiny.data_path), "MAX_SWEEPS", str(MAX_SWEEPS)]
    data(["nuscenes", BASE_YAML, *words, "--workers", "1", *settings])


def test_the_command(filled_nus: TinyNuScenes, capsys: pytest.CaptureFixture[str]) -> None:
    before = files_made(filled_nus.root)
    for path in filled_nus.root.glob("*.pkl"):
        path.unlink()
    run(filled_nus, "--version", "v1.0-mini")
    said = capsys.readouterr().out
    assert "infos of 5 train, 2 val frames, 26 objects in the database" in said
    # The yaml asks for files of ten sweeps.
    assert "let it name nuscenes_infos_4sweeps_train.pkl, nuscenes_infos_4sweeps_val.pkl" in said
    check_same(files_made(filled_nus.root), before)


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("v1.0-trainval", "there is no folder v1.0-trainval, it holds v1.0-mini"),
        ("mini", "there is no folder mini, it holds v1.0-mini"),
        ("../other", "expected the name of a folder of tables"),
    ],
)
def test_a_version_that_is_not_there(
    shared_nus: TinyNuScenes, version: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        run(shared_nus, "--version", version)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_a_yaml_of_another_data_set(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        data(["nuscenes", "dataset_configs/kitti_dataset.yaml", "--version", "v1.0-mini"])
    assert stop.value.code == 2
    assert "DATASET is KittiDataset, expected NuScenesDataset" in capsys.readouterr().err


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="this dataset folder does not exist; expected nuScenes"):
        NuScenesFolder(tmp_path / "nowhere", "v1.0-mini").check()


def test_an_unknown_version_needs_splits(tmp_path: Path) -> None:
    tiny = TinyNuScenes(tmp_path, "v1.0-yard")
    tiny.scene("monday", TRAFFIC)
    tiny.write()
    with pytest.raises(DataError, match="splits.json: v1.0-yard is none of nuScenes' own versions"):
        make_files(tiny)


@pytest.mark.parametrize(
    ("table", "field", "value"),
    [
        ("scene", "name", ["scene-0061"]),
        ("sample", "scene_token", {"a": 1}),
        ("sample_data", "prev", None),
        ("sample_data", "filename", 7),
    ],
)
def test_a_field_that_is_no_text_is_named(filled_nus: TinyNuScenes, table, field, value) -> None:
    path = filled_nus.root / filled_nus.version / f"{table}.json"
    rows = json.loads(path.read_text())
    rows[0][field] = value
    path.write_text(json.dumps(rows))
    with pytest.raises(DataError, match=f"{table}.json: the {field} of the row .* a text"):
        create(filled_nus)
