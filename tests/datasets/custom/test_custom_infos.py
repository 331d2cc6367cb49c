"""Infos and object database of own data: OpenPCDet's layout, and one sentence for each mistake."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from tiny_custom import CLASSES, TinyCustom, box_of, cloud_of, fill_custom, objects_of

from pcdet_distill.datasets.custom.custom_infos import create_custom_infos
from pcdet_distill.errors import DataError


@pytest.fixture
def custom(tmp_path: Path) -> TinyCustom:
    return fill_custom(tmp_path / "own")


def load(path: Path):
    return pickle.loads(path.read_bytes())


def test_the_layout_is_openpcdets(custom: TinyCustom) -> None:
    counts = create_custom_infos(custom.root, show_progress=False)
    assert counts == {"frames": {"train": 4, "val": 2}, "objects": {"Forklift": 4, "Person": 4}}
    infos = load(custom.root / "custom_infos_train.pkl")
    assert infos[1]["point_cloud"] == {"num_features": 4, "lidar_idx": "0001"}
    annos = infos[1]["annos"]
    assert annos["name"].tolist() == CLASSES
    expected = [box_of(labelled) for labelled in objects_of(1)]
    np.testing.assert_allclose(annos["gt_boxes_lidar"], expected, atol=1e-5)
    assert annos["gt_boxes_lidar"].dtype == np.float32
    assert annos["num_points_in_gt"].tolist() == [40, 40]


def test_the_database_holds_each_objects_points(custom: TinyCustom) -> None:
    create_custom_infos(custom.root, show_progress=False)
    objects = load(custom.root / "custom_dbinfos_train.pkl")
    entry = objects["Person"][2]
    assert entry["path"] == "gt_database/0002_Person_1.bin"
    assert entry["num_points_in_gt"] == 40
    points = np.fromfile(custom.root / entry["path"], dtype=np.float32).reshape(-1, 4)
    cloud = cloud_of(objects_of(2), seed=4)
    moved = points[:, :3] + entry["box3d_lidar"][:3]
    np.testing.assert_allclose(np.sort(moved, axis=0), np.sort(cloud[-40:, :3], axis=0), atol=1e-5)


def test_several_processes_write_the_same(custom: TinyCustom) -> None:
    create_custom_infos(custom.root, workers=1, show_progress=False)
    alone = load(custom.root / "custom_dbinfos_train.pkl")
    files = sorted(path.read_bytes() for path in (custom.root / "gt_database").iterdir())
    create_custom_infos(custom.root, workers=2, show_progress=False)
    together = load(custom.root / "custom_dbinfos_train.pkl")
    for name in CLASSES:
        for entry, other in zip(alone[name], together[name], strict=True):
            np.testing.assert_array_equal(entry.pop("box3d_lidar"), other.pop("box3d_lidar"))
            assert entry == other
    again = sorted(path.read_bytes() for path in (custom.root / "gt_database").iterdir())
    assert again == files


def test_frames_without_labels_make_their_own_split(custom: TinyCustom) -> None:
    np.save(custom.root / "points" / "dark.npy", cloud_of([]))
    custom.split("unlabelled", ["dark"])
    counts = create_custom_infos(custom.root, show_progress=False)
    assert counts["frames"]["unlabelled"] == 1
    infos = load(custom.root / "custom_infos_unlabelled.pkl")
    assert infos == [{"point_cloud": {"num_features": 4, "lidar_idx": "dark"}}]


def test_names_with_spaces_slashes_and_other_scripts(custom: TinyCustom) -> None:
    path = custom.root / "labels" / "0000.txt"
    boxes = [box_of(("Person", 3.0, 3.0, 0.0)), box_of(("Person", -3.0, 3.0, 0.0))]
    lines = [" ".join(map(str, box)) for box in boxes]
    path.write_text(f"{lines[0]} 叉车/gross\n{lines[1]} hand truck\n", encoding="utf-8")
    create_custom_infos(custom.root, show_progress=False)
    objects = load(custom.root / "custom_dbinfos_train.pkl")
    assert objects["hand truck"][0]["path"] == "gt_database/0000_hand_truck_1.bin"
    assert (custom.root / objects["叉车/gross"][0]["path"]).is_file()


def spoil_labels(text: str):
    def spoil(custom: TinyCustom) -> None:
        (custom.root / "labels" / "0001.txt").write_text(text)

    return spoil


def remove(path: str):
    def spoil(custom: TinyCustom) -> None:
        (custom.root / path).unlink()

    return spoil


def more_columns(custom: TinyCustom) -> None:
    custom.frame("0002", objects_of(2), num_features=5)


def bad_points(custom: TinyCustom) -> None:
    points = np.load(custom.root / "points" / "0003.npy")
    points[5, 2] = np.nan
    np.save(custom.root / "points" / "0003.npy", points)


def truncate(custom: TinyCustom) -> None:
    path = custom.root / "points" / "0003.npy"
    path.write_bytes(path.read_bytes()[:500])


def list_twice(custom: TinyCustom) -> None:
    custom.split("train", ["0000", "0001", "0000"])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_labels("1 2 3 4 5 6 7\n"), ["0001.txt, line 1", "has 7 fields"]),
        (spoil_labels("\n1 2 3 4 five 6 7 Person\n"), ["0001.txt, line 2", "dy is 'five'"]),
        (spoil_labels("1 2 3 4 -5 6 7 Person\n"), ["0001.txt, line 1", "4 -5 6", "above 0"]),
        (
            spoil_labels("1 2 nan 4 5 6 7 Person\n"),
            ["0001.txt, line 1", "its z is nan, expected a finite number"],
        ),
        (remove("labels/0002.txt"), ["labels/0002.txt", "does not exist"]),
        (remove("points/0002.npy"), ["points/0002.npy", "does not exist"]),
        (remove("ImageSets/val.txt"), ["ImageSets/val.txt", "does not exist"]),
        (more_columns, ["0002.npy", "5 columns", "0000.npy have 4"]),
        (bad_points, ["0003.npy", "1 of 680 points hold NaN"]),
        (truncate, ["0003.npy", "not a readable .npy array"]),
        (list_twice, ["train.txt", "'0000' twice"]),
    ],
)
def test_bad_input_is_named_and_leaves_the_old_files(custom: TinyCustom, spoil, words) -> None:
    create_custom_infos(custom.root, show_progress=False)
    before = (custom.root / "custom_infos_train.pkl").read_bytes()
    spoil(custom)
    with pytest.raises(DataError) as caught:
        create_custom_infos(custom.root, show_progress=False)
    for word in words:
        assert word in str(caught.value)
    assert (custom.root / "custom_infos_train.pkl").read_bytes() == before
    assert not list(custom.root.glob(".create*"))


def test_a_folder_of_another_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no folder points/.*data custom DIR --out OUT"):
        create_custom_infos(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        create_custom_infos(tmp_path / "nowhere")
