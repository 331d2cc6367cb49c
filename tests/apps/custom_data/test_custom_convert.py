"""``data custom``: files of many kinds become a data set; a sentence for each mistake."""

from __future__ import annotations

import json
import re
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from tiny_custom import box_of, cloud_of, objects_of

from pcdet_distill import cli
from pcdet_distill.apps.custom_data import add_custom_arguments
from pcdet_distill.apps.custom_data.recording import write_pcd
from pcdet_distill.config import load_config
from pcdet_distill.datasets import build_dataset
from pcdet_distill.datasets.readers import PointCloud

HEADER = "frame,class,x,y,z,length,width,height,yaw"
FRAMES = 10


def line_of(frame: str, labelled) -> str:
    numbers = ",".join(f"{value:.4f}" for value in box_of(labelled))
    return f"{frame},{labelled[0]},{numbers}"


def write_table(path: Path, frames: list[str]) -> None:
    lines = [HEADER]
    for number, frame in enumerate(frames):
        lines += [line_of(frame, labelled) for labelled in objects_of(number)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Ten clouds .bin of five columns, and one table."""
    folder = tmp_path / "own"
    (folder / "clouds").mkdir(parents=True)
    frames = [f"{number:04d}" for number in range(FRAMES)]
    for number, frame in enumerate(frames):
        cloud = cloud_of(objects_of(number), seed=number, num_features=5)
        cloud[:, 4] = np.arange(len(cloud)) % 16
        cloud.tofile(folder / "clouds" / f"{frame}.bin")
    write_table(folder / "labels.csv", frames)
    return folder


def convert(folder: Path, *flags: str, out: str = "out") -> Path:
    """Run the command; returns the folder that it wrote."""
    target = folder.parent / out
    cli.data(["custom", str(folder), "--out", str(target), "--workers", "1", *flags])
    return target


def refused(capsys, folder: Path, *flags: str) -> str:
    """The sentence by which the command refuses; nothing is left behind."""
    with pytest.raises(SystemExit) as stop:
        convert(folder, *flags)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert not (folder.parent / "out").exists()
    assert not list(folder.parent.glob(".out*"))
    return error


def load(out: Path, training: bool = False, name: str = "out_teacher.yaml"):
    cfg = load_config(out / name)
    return cfg, build_dataset(cfg.DATA_CONFIG, cfg.CLASS_NAMES, training=training)


def test_a_data_set_that_loads_and_says_what_it_holds(own: Path, capsys) -> None:
    out = convert(own, "--columns", "x", "y", "z", "intensity", "ring")
    shown = capsys.readouterr().out
    assert "10 frames, 6800 points (680 to 680 a frame), 20 boxes (2 to 2 a frame)" in shown
    assert re.search(r"ring +0 +15\n", shown)
    assert "split: 8 train, 2 val" in shown
    cfg, train = load(out, training=True)
    assert sorted(cfg.CLASS_NAMES) == ["Forklift", "Person"]
    assert len(train) == 8
    assert cfg.DATA_CONFIG.POINT_FEATURE_ENCODING.src_feature_list[4] == "ring"
    assert cfg.DATA_CONFIG.POINT_FEATURE_ENCODING.used_feature_list == ["x", "y", "z", "intensity"]
    assert len(train[0]["gt_boxes"]) >= 2
    val = load(out)[1]
    for index in range(len(val)):
        frame = val.load_frame(index)
        number = int(frame["frame_id"])
        np.testing.assert_array_equal(
            frame["points"][:, :4], cloud_of(objects_of(number), seed=number, num_features=5)[:, :4]
        )
        expected = [box_of(labelled) for labelled in objects_of(number)]
        expected[0][6] = np.arctan2(np.sin(expected[0][6]), np.cos(expected[0][6]))
        np.testing.assert_allclose(frame["gt_boxes"], expected, atol=1e-3)
    assert (out / "frames.png").read_bytes().startswith(b"\x89PNG")
    assert "Forklift" in (out / "survey.txt").read_text()


def test_teacher_and_student_fit_together(own: Path) -> None:
    out = convert(own)
    teacher = load_config(out / "out_teacher.yaml")
    student = load_config(out / "out_student.yaml")
    assert [
        width // 2 for width in teacher.MODEL.BACKBONE_2D.NUM_FILTERS
    ] == student.MODEL.BACKBONE_2D.NUM_FILTERS
    assert student.DISTILL.INIT_STUDENT == "SLICE"
    assert student.DATA_CONFIG.POINT_CLOUD_RANGE == teacher.DATA_CONFIG.POINT_CLOUD_RANGE
    anchors = {
        entry.class_name: entry for entry in teacher.MODEL.DENSE_HEAD.ANCHOR_GENERATOR_CONFIG
    }
    assert anchors["Forklift"].anchor_sizes == [[2.4, 1.2, 2.0]]
    assert anchors["Person"].anchor_bottom_heights == [-1.5]


def test_chosen_features_are_stored_and_seen(own: Path) -> None:
    out = convert(
        own,
        *("--columns", "x", "y", "z", "intensity", "ring"),
        *("--features", "x", "y", "z", "ring", "--intensity_scale", "255"),
    )
    cfg, val = load(out)
    assert cfg.DATA_CONFIG.POINT_FEATURE_ENCODING.used_feature_list == ["x", "y", "z", "ring"]
    assert val[0]["points"].shape[1] == 4
    assert set(np.unique(val.load_frame(0)["points"][:, 3])) == set(range(16))


def test_intensities_are_divided(own: Path) -> None:
    out = convert(own, "--intensity_scale", "4")
    stored = np.load(out / "points" / "0003.npy")
    cloud = cloud_of(objects_of(3), seed=3, num_features=5)
    np.testing.assert_allclose(stored[:, 3], cloud[:, 3] / 4)
    np.testing.assert_array_equal(stored[:, :3], cloud[:, :3])


def test_classes_are_chosen_renamed_and_cleaned(own: Path, capsys) -> None:
    text = (own / "labels.csv").read_text().replace("Forklift", "reach truck: big")
    (own / "labels.csv").write_text(text)
    out = convert(own, "--rename", "Person=行人", "--classes", "行人")
    shown = capsys.readouterr().out
    assert "class 'reach truck: big' is written as 'reach_truck_big'" in shown
    assert "not trained, because --classes leaves them out: reach_truck_big (10)" in shown
    cfg, train = load(out, training=True)
    assert cfg.CLASS_NAMES == ["行人"]
    assert set(train[0]["gt_boxes"][:, 7].tolist()) == {1.0}
    assert set(train.load_frame(0)["gt_names"].tolist()) == {"reach_truck_big", "行人"}


def test_recordings_stay_together(tmp_path: Path, capsys) -> None:
    """Two levels of folders, one JSON file a frame: SUSTechPOINTS' layout."""
    own = tmp_path / "own"
    for drive in range(5):
        for folder in ("lidar", "label"):
            (own / f"drive{drive}" / folder).mkdir(parents=True)
        for number in range(4):
            objects = objects_of(number + drive)
            cloud = PointCloud(cloud_of(objects), ("x", "y", "z", "intensity"))
            write_pcd(own / f"drive{drive}" / "lidar" / f"{number:04d}.pcd", cloud)
            entries = []
            for labelled in objects:
                x, y, z, dx, dy, dz, heading = box_of(labelled)
                psr = {
                    "position": {"x": x, "y": y, "z": z},
                    "scale": {"x": dx, "y": dy, "z": dz},
                    "rotation": {"x": 0, "y": 0, "z": heading},
                }
                entries.append({"obj_type": labelled[0], "obj_id": labelled[0], "psr": psr})
            path = own / f"drive{drive}" / "label" / f"{number:04d}.json"
            path.write_text(json.dumps(entries))
        (own / f"drive{drive}" / "desc.json").write_text("{}")
    out = convert(own)
    assert "5 recordings, told by their names" in capsys.readouterr().out
    val = (out / "ImageSets" / "val.txt").read_text().split()
    assert len({name.split("_")[0] for name in val}) == 1
    assert len(val) == 4
    assert load(out)[1].frame_name(0) == val[0]


def test_kittis_folders_with_their_own_split(tmp_path: Path, capsys) -> None:
    own = tmp_path / "kitti"
    for folder in ("velodyne", "label_2", "calib"):
        (own / "training" / folder).mkdir(parents=True)
    (own / "ImageSets").mkdir()
    calib = "P2: 1 0 0 0 0 1 0 0 0 0 1 0\nR0_rect: 1 0 0 0 1 0 0 0 1\n"
    calib += "Tr_velo_to_cam: 0 -1 0 0 0 0 -1 0 1 0 0 0\n"
    for number in range(3):
        frame = f"{number:06d}"
        cloud_of(objects_of(number)).tofile(own / "training" / "velodyne" / f"{frame}.bin")
        (own / "training" / "calib" / f"{frame}.txt").write_text(calib)
        lines = []
        for labelled in objects_of(number):
            x, y, z, dx, dy, dz, heading = box_of(labelled)
            place = f"{-y} {-(z - dz / 2)} {x} {-heading - np.pi / 2}"
            lines.append(f"{labelled[0]} 0 0 0 0 0 9 9 {dz} {dy} {dx} {place}\n")
        (own / "training" / "label_2" / f"{frame}.txt").write_text("".join(lines))
    (own / "ImageSets" / "train.txt").write_text("000002\n000000\n")
    (own / "ImageSets" / "val.txt").write_text("000001\n")
    out = convert(own)
    assert "split: 2 train, 1 val; as " in capsys.readouterr().out
    frame = load(out)[1].load_frame(0)
    assert frame["frame_id"] == "000001"
    np.testing.assert_allclose(
        frame["gt_boxes"], [box_of(labelled) for labelled in objects_of(1)], atol=1e-3
    )


def test_clouds_without_labels_are_a_split_of_their_own(own: Path, capsys) -> None:
    text = (own / "labels.csv").read_text().splitlines()
    kept = [line for line in text if not line.startswith("0004")]
    (own / "labels.csv").write_text("\n".join(kept))
    out = convert(own)
    shown = capsys.readouterr().out
    assert f"warning: 1 of 10 clouds without labels ({own / 'clouds' / '0004.bin'} first)" in shown
    assert (out / "ImageSets" / "unlabelled.txt").read_text() == "0004\n"
    assert (out / "custom_infos_unlabelled.pkl").is_file()
    out = convert(own, "--unlabelled_is_empty", out="again")
    assert (out / "labels" / "0004.txt").read_text() == ""


def test_a_single_frame_trains_and_says_so(tmp_path: Path, capsys) -> None:
    own = tmp_path / "own"
    own.mkdir()
    np.save(own / "só.npy", cloud_of(objects_of(0)))
    write_table(own / "só.csv", ["só"])
    out = convert(own)
    assert "one frame is both train and val" in capsys.readouterr().out
    assert len(load(out, training=True)[1][0]["gt_boxes"]) >= 2


def test_points_with_nan_are_dropped_and_world_coordinates_moved(own: Path, capsys) -> None:
    shift = np.array([500_000.0, 4_600_000.0, 300.0])
    for path in sorted((own / "clouds").glob("*.bin")):
        cloud = np.fromfile(path, dtype=np.float32).reshape(-1, 5)
        world = cloud.astype(np.float64)
        world[:, :3] += shift
        world[:7, 1] = np.nan
        np.save(path.with_suffix(".npy"), world)
        path.unlink()
    lines = (own / "labels.csv").read_text().splitlines()
    moved = [lines[0]]
    for line in lines[1:]:
        frame, name, *numbers = line.split(",")
        values = np.array(numbers, dtype=np.float64)
        values[:3] += shift
        moved.append(",".join([frame, name, *map(str, values)]))
    (own / "labels.csv").write_text("\n".join(moved))
    out = convert(own)
    shown = capsys.readouterr().out
    assert "70 points with NaN or infinity were dropped, from 10 frames" in shown
    assert "10 clouds are in world coordinates" in shown
    infos = load(out)[1].custom_infos
    assert all(info["annos"]["num_points_in_gt"].min() >= 39 for info in infos)


def test_a_recording_with_labels_by_number_and_by_time(tmp_path: Path, monkeypatch) -> None:
    def read_bag(path: Path, topic: str | None):
        assert topic == "/points"
        for number in range(4):
            cloud = cloud_of(objects_of(number))[: 0 if number == 1 else None]
            yield 1_700_000_000.25 + number, PointCloud(cloud, ("x", "y", "z", "intensity"))

    monkeypatch.setattr("pcdet_distill.apps.custom_data.recording.read_bag", read_bag)
    bag = tmp_path / "drives" / "one.mcap"
    bag.parent.mkdir()
    bag.write_bytes(b"")
    table = tmp_path / "drives" / "labels.csv"
    frames = ["0", "1700000002250000000", "1700000003.25"]
    lines = [HEADER]
    for frame, number in zip(frames, (0, 2, 3)):
        lines += [line_of(frame, labelled) for labelled in objects_of(number)]
    table.write_text("\n".join(lines))
    out = tmp_path / "out"
    flags = ["--out", str(out), "--topic", "/points", "--workers", "1"]
    cli.data(["custom", str(bag), *flags])
    for frame, number in zip(("000000", "000001", "000002"), (0, 2, 3)):
        text = (out / "labels" / f"{frame}.txt").read_text().split()
        np.testing.assert_allclose(
            np.array(text[:3], dtype=float), box_of(objects_of(number)[0])[:3], atol=1e-3
        )


def rewrite(old: str, new: str, count: int = 1):
    def spoil(own: Path) -> None:
        path = own / "labels.csv"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, count))

    return spoil


def other_columns(own: Path) -> None:
    cloud_of(objects_of(6), num_features=7).tofile(own / "clouds" / "0006.bin")


def other_named_columns(own: Path) -> None:
    for path in sorted((own / "clouds").glob("*.bin")):
        cloud = np.fromfile(path, dtype=np.float32).reshape(-1, 5)
        names = ("x", "y", "z", "intensity", "ring")
        if path.stem == "0006":
            cloud, names = cloud[:, :4], names[:4]
        write_pcd(path.with_suffix(".pcd"), PointCloud(cloud, names))
        path.unlink()


def truncated(own: Path) -> None:
    path = own / "clouds" / "0005.bin"
    path.write_bytes(path.read_bytes()[:-6])


def no_cloud(own: Path) -> None:
    (own / "clouds" / "0005.bin").unlink()


def no_clouds(own: Path) -> None:
    for path in (own / "clouds").glob("*.bin"):
        path.unlink()


def only_a_recording(own: Path) -> None:
    no_clouds(own)
    (own / "drive.mcap").write_bytes(b"")


def no_labels(own: Path) -> None:
    (own / "labels.csv").unlink()


def two_tables(own: Path) -> None:
    (own / "labels_old.csv").write_text((own / "labels.csv").read_text())


def two_clouds_of_a_frame(own: Path) -> None:
    np.save(own / "clouds" / "0003.npy", cloud_of(objects_of(3), num_features=5))


def all_nan(own: Path) -> None:
    cloud = cloud_of(objects_of(2), num_features=5)
    cloud[:, 4] = np.nan
    cloud.tofile(own / "clouds" / "0002.bin")


def only_header(own: Path) -> None:
    (own / "labels.csv").write_text(HEADER + "\n")


MISTAKES = {
    "other columns": (other_columns, [], ["0006.bin", "column"]),
    "other named columns": (
        other_named_columns,
        [],
        ["0006.pcd", "x, y, z, intensity, ring", "'--features x y z intensity'"],
    ),
    "truncated": (truncated, [], ["0005.bin"]),
    "no cloud of a label": (no_cloud, [], ["labels.csv, line 12", "'0005'", "--skip_missing"]),
    "no clouds": (no_clouds, [], ["own", "no point clouds"]),
    "only a recording": (only_a_recording, [], ["holds recordings", "drive.mcap"]),
    "no labels": (no_labels, [], ["own", "--labels"]),
    "two tables": (two_tables, [], ["labels.csv", "labels_old.csv", "--labels names them"]),
    "two clouds of a frame": (two_clouds_of_a_frame, [], ["0003.npy", "0003.bin"]),
    "a column of NaN": (all_nan, [], ["0002.bin", "hardly a finite", "--features"]),
    "no objects": (only_header, [], ["labels.csv", "no box in any frame"]),
    "other names": (rewrite(",", "x,", 10_000), [], ["labels.csv"]),
    "misspelt class": (
        rewrite("\n0003,Forklift", "\n0003,Forklfit"),
        ["--classes", "Forklift", "Person"],
        ["labels.csv, line 8", "'Forklfit' (1 objects)", "did you mean 'Forklift'", "--rename"],
    ),
    "unknown --classes": (
        rewrite("Forklift", "Forklift"),
        ["--classes", "Forklft"],
        ["--classes", "'Forklft'; did you mean 'Forklift'?"],
    ),
    "unknown --rename": (
        rewrite("Forklift", "Forklift"),
        ["--rename", "Persn=Human"],
        ["--rename", "did you mean 'Person'?"],
    ),
    "a split of 80": (rewrite("F", "F"), ["--split", "80"], ["--split 80", "0 to 1"]),
    "one recording": (
        rewrite("F", "F"),
        ["--split_by", "sequence"],
        ["--split_by sequence", "one recording", "--split_by block"],
    ),
    "unknown --features": (
        rewrite("F", "F"),
        ["--features", "x", "y", "z", "intensty"],
        ["--features", "'intensty'", "did you mean 'intensity'?"],
    ),
    "columns without place": (rewrite("F", "F"), ["--columns", "a", "b"], ["x y z first"]),
    "unknown --format": (rewrite("F", "F"), ["--format", "cvs"], ["did you mean 'csv'?"]),
    "missing --labels": (rewrite("F", "F"), ["--labels", "none.csv"], ["none.csv", "no such"]),
    "a topic of a folder": (rewrite("F", "F"), ["--topic", "/a"], ["/a", "no recording"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_refused_by_one_sentence(own: Path, capsys, mistake: str) -> None:
    spoil, flags, words = MISTAKES[mistake]
    spoil(own)
    error = refused(capsys, own, *flags)
    for word in words:
        assert word in error, error


def test_labels_of_missing_clouds_are_left_out_on_request(own: Path, capsys) -> None:
    no_cloud(own)
    out = convert(own, "--skip_missing")
    assert "1 labelled frames without cloud left out (0005 ...)" in capsys.readouterr().out
    assert not (out / "labels" / "0005.txt").exists()


def test_several_processes_write_the_same(own: Path) -> None:
    alone = convert(own)
    together = convert(own, "--workers", "2", out="together")
    for path in sorted(alone.glob("*/*")):
        assert (together / path.relative_to(alone)).read_bytes() == path.read_bytes(), path
    assert (alone / "survey.txt").read_bytes() == (together / "survey.txt").read_bytes()


def test_an_existing_folder_is_never_overwritten(own: Path, capsys) -> None:
    (own.parent / "out").mkdir()
    (own.parent / "out" / "mine.txt").write_text("keep")
    with pytest.raises(SystemExit):
        convert(own)
    assert "exists already" in capsys.readouterr().err
    assert (own.parent / "out" / "mine.txt").read_text() == "keep"


def test_boxes_beside_their_points_are_doubted(own: Path, capsys) -> None:
    lines = (own / "labels.csv").read_text().splitlines()
    moved = [lines[0]]
    for line in lines[1:]:
        values = line.split(",")
        values[4] = str(float(values[4]) + 3)
        moved.append(",".join(values))
    (own / "labels.csv").write_text("\n".join(moved))
    convert(own)
    assert "100% of the boxes hold no point" in capsys.readouterr().out


def test_similar_classes_are_doubted(own: Path, capsys) -> None:
    rewrite("\n0003,Forklift", "\n0003,forklift")(own)
    convert(own)
    assert "'Forklift' (9) and 'forklift' (1) have similar names" in capsys.readouterr().out


def test_custom_infos_makes_the_files_again(own: Path, capsys) -> None:
    out = convert(own)
    (out / "labels" / "0000.txt").write_text("1 2 -0.5 2 1 2 0 Forklift\n")
    cli.data(["custom_infos", str(out / "out_dataset.yaml"), "--workers", "1"])
    shown = capsys.readouterr().out
    assert "infos of 8 train, 2 val frames; gt_database:" in shown
    dataset = yaml.safe_load((out / "out_dataset.yaml").read_text())
    assert dataset["DATA_PATH"] == str(out)


def test_every_flag_has_a_help_text() -> None:
    parser = ArgumentParser()
    add_custom_arguments(parser)
    for action in parser._actions:
        assert action.help and len(action.help) > 15, action.option_strings
