"""``pcdet-distill view`` over clouds, data sets, detectors and files of results."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from small_detectors import CONFIG
from tiny_argoverse2 import write_log
from tiny_custom import fill_custom
from tiny_kitti import TinyKitti
from tiny_kitti import fill as fill_kitti
from tiny_nuscenes import TinyNuScenes
from tiny_nuscenes import fill as fill_nuscenes
from viewer_reader import boxes_of, points_of_frame, scene_of_page

from pcdet_distill.cli import main

BOX = [10.0, 2.0, -0.5, 4.0, 2.0, 1.5, 0.25]


@pytest.fixture
def kitti(tmp_path: Path) -> TinyKitti:
    tiny = TinyKitti(tmp_path / "kitti")
    fill_kitti(tiny)
    return tiny


def view(folder: Path, *words: object) -> dict:
    """The data of the page that the command writes."""
    page = folder / "view.html"
    main(["view", *(str(word) for word in words), "--out", str(page)])
    return scene_of_page(page)


def error_of(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line that the command prints before it exits with 2."""
    with pytest.raises(SystemExit) as stop:
        main(["view", *(str(word) for word in words)])
    assert stop.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "note:" not in line]
    assert len(lines) == 1
    return lines[0]


def write_cloud(path: Path, num_points: int = 300, columns: int = 4) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.RandomState(num_points)
    points = random.uniform(-30, 30, (num_points, columns)).astype(np.float32)
    points[:, 3:] = random.uniform(0, 1, (num_points, columns - 3))
    np.save(path, points)
    return points


def test_a_folder_in_kittis_layout(tmp_path: Path, kitti: TinyKitti):
    scene = view(tmp_path, kitti.root)
    names = sorted(path.stem for path in (kitti.root / "training/velodyne").glob("*.bin"))
    assert [frame["name"] for frame in scene["frames"]] == names
    points = np.fromfile(kitti.path("velodyne", names[0]), np.float32).reshape(-1, 4)
    places, _ = points_of_frame(scene["frames"][0])
    assert np.abs(places - points[:, :3]).max() < 1e-3
    lines = kitti.path("label_2", names[0]).read_text().splitlines()
    labelled = [line.split()[0] for line in lines if not line.startswith("DontCare")]
    shown = [scene["classes"][row["kind"]] for row in boxes_of(scene, 0, "truth")]
    assert shown == labelled
    for row in boxes_of(scene, 0, "truth"):
        assert row["points"] >= 40, "the folder has 40 points inside each object"


def test_a_frame_that_cannot_be_read_is_left_out_and_said(
    tmp_path: Path, kitti: TinyKitti, capsys: pytest.CaptureFixture[str]
):
    whole = len(view(tmp_path, kitti.root)["frames"])
    names = sorted(path.stem for path in (kitti.root / "training/velodyne").glob("*.bin"))
    kitti.path("velodyne", names[1]).write_bytes(b"")
    capsys.readouterr()
    scene = view(tmp_path, kitti.root)
    assert len(scene["frames"]) == whole - 1
    assert f"{names[1]}.bin: is empty" in capsys.readouterr().err
    assert any("left out" in note for note in scene["notes"])


def test_own_data_in_openpcdets_layout(tmp_path: Path):
    fill_custom(tmp_path / "own", train=3, val=1)
    scene = view(tmp_path, tmp_path / "own", "--frames", "2")
    assert len(scene["frames"]) == 2
    labels = sorted((tmp_path / "own/labels").glob("*.txt"))[0].read_text().splitlines()
    boxes = boxes_of(scene, 0, "truth")
    assert len(boxes) == len(labels) > 0
    written = np.array([[float(word) for word in line.split()[:7]] for line in labels])
    np.testing.assert_allclose([row["box"][:6] for row in boxes], written[:, :6], atol=1e-3)


def test_nuscenes_by_its_tables(tmp_path: Path):
    tiny = TinyNuScenes(tmp_path / "nuscenes")
    fill_nuscenes(tiny)
    for root in (tiny.data_path, tiny.root):
        scene = view(tmp_path, root)
        assert len(scene["frames"]) == len(tiny.tables["sample"])
        assert "car" in scene["classes"]
        boxes = boxes_of(scene, 0, "truth")
        car = next(row for row in boxes if scene["classes"][row["kind"]] == "car")
        assert len(car["box"]) == 9
        assert np.hypot(*car["box"][7:]) == pytest.approx(8.0, abs=0.1), "metres per second"
        assert car["points"] >= 15, "of the 20 that the folder puts into each object"


def test_the_split_of_a_yaml(tmp_path: Path, kitti: TinyKitti):
    from pcdet_distill.datasets.kitti.kitti_infos import create_kitti_infos

    create_kitti_infos(kitti.root, show_progress=False)
    yaml = tmp_path / "data.yaml"
    yaml.write_text(
        "_BASE_CONFIG_: cfgs/dataset_configs/kitti_dataset.yaml\n"
        f"DATA_PATH: {kitti.root}\nFOV_POINTS_ONLY: False\n"
    )
    listed = (kitti.root / "ImageSets/val.txt").read_text().split()
    scene = view(tmp_path, "--cfg_file", yaml)
    assert [frame["name"] for frame in scene["frames"]] == listed
    listed = (kitti.root / "ImageSets/train.txt").read_text().split()
    scene = view(tmp_path, kitti.root, "--cfg_file", yaml, "--split", "train")
    assert [frame["name"] for frame in scene["frames"]] == listed


def test_a_single_file_with_labels_beside_it(tmp_path: Path):
    points = write_cloud(tmp_path / "scans" / "a.npy")
    label = {"obj_type": "Car", "obj_id": "1", "psr": {}}
    label["psr"]["position"] = dict(zip("xyz", BOX[:3]))
    label["psr"]["scale"] = dict(zip("xyz", BOX[3:6]))
    label["psr"]["rotation"] = dict(zip("xyz", (0.0, 0.0, BOX[6])))
    (tmp_path / "scans" / "a.json").write_text(json.dumps([label]))
    scene = view(tmp_path, tmp_path / "scans" / "a.npy")
    places, _ = points_of_frame(scene["frames"][0])
    assert np.abs(places - points[:, :3]).max() < 1e-3
    (row,) = boxes_of(scene, 0, "truth")
    np.testing.assert_allclose(row["box"], BOX, atol=1e-4)


def test_labels_of_other_frames_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_cloud(tmp_path / "scans" / "a.npy")
    write_cloud(tmp_path / "scans" / "b.npy")
    (tmp_path / "labels").mkdir()
    line = " ".join(map(str, BOX))
    (tmp_path / "labels" / "other.txt").write_text(f"{line} Car\n")
    message = error_of(capsys, tmp_path / "scans", "--labels", tmp_path / "labels")
    assert "none of the 1 labelled frames has a cloud" in message
    assert "'other'" in message


def test_labels_that_were_only_found_do_not_stop_the_view(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    write_cloud(tmp_path / "scans" / "a.npy")
    (tmp_path / "scans" / "a.txt").write_text("this is no label\n")
    scene = view(tmp_path, tmp_path / "scans")
    assert scene["sources"] == []
    assert "without labels: " in capsys.readouterr().err


def test_results_of_a_teacher_and_a_student(tmp_path: Path):
    for name in ("a", "b", "c"):
        write_cloud(tmp_path / "scans" / f"{name}.npy")
    anno = {
        "frame_id": "b",
        "name": np.array(["Car"]),
        "score": np.array([0.75], np.float32),
        "boxes_lidar": np.array([BOX], np.float32),
        "pred_labels": np.array([1]),
    }
    (tmp_path / "result.pkl").write_bytes(pickle.dumps([anno]))
    plain = {"names": ["Van", "Car"], "scores": [0.5, 0.4], "boxes": [BOX, BOX]}
    (tmp_path / "teacher.json").write_text(json.dumps({"b": plain}))
    words = ["--results", tmp_path / "result.pkl", "--teacher_results", tmp_path / "teacher.json"]
    scene = view(tmp_path, tmp_path / "scans", *words)
    assert [frame["name"] for frame in scene["frames"]] == ["b"], "the frame that has results"
    assert [entry["title"] for entry in scene["sources"]] == ["teacher", "student"]
    (row,) = boxes_of(scene, 0, "student")
    assert (scene["classes"][row["kind"]], row["score"]) == ("Car", 0.75)
    np.testing.assert_allclose(row["box"], BOX, atol=1e-4)
    assert len(boxes_of(scene, 0, "teacher")) == 2


def test_kittis_result_files_are_moved_by_the_calibration(
    tmp_path: Path, kitti: TinyKitti, capsys: pytest.CaptureFixture[str]
):
    """Labels written as detections lie where the labels do."""
    folder = tmp_path / "final_result" / "data"
    folder.mkdir(parents=True)
    for file in (kitti.root / "training/label_2").glob("*.txt"):
        lines = [line for line in file.read_text().splitlines() if "DontCare" not in line]
        (folder / file.name).write_text("".join(f"{line} 0.5\n" for line in lines))
    scene = view(tmp_path, kitti.root, "--results", folder)
    number = next(at for at in range(len(scene["frames"])) if boxes_of(scene, at, "truth"))
    labels = boxes_of(scene, number, "truth")
    found = boxes_of(scene, number, "student")
    assert [row["score"] for row in found] == [0.5] * len(labels)
    for own, other in zip(found, labels):
        np.testing.assert_allclose(own["box"], other["box"], atol=1e-4)

    name = scene["frames"][number]["name"]
    write_cloud(tmp_path / "scans" / f"{name}.npy")
    calib = kitti.root / "training/calib"
    again = view(tmp_path, tmp_path / "scans", "--results", folder, "--calib", calib)
    assert boxes_of(again, 0, "student")[0]["box"] == pytest.approx(found[0]["box"], abs=1e-4)
    view(tmp_path, tmp_path / "scans", "--results", folder, "--calib", "default")
    assert "expected --calib" in error_of(capsys, tmp_path / "scans", "--results", folder)
    (tmp_path / "none").mkdir()
    message = error_of(capsys, tmp_path / "scans", "--results", tmp_path / "none")
    assert "holds no KITTI result files" in message


def test_results_of_other_frames_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_cloud(tmp_path / "scans" / "a.npy")
    (tmp_path / "r.json").write_text(json.dumps({"z": {"names": [], "scores": [], "boxes": []}}))
    message = error_of(capsys, tmp_path / "scans", "--results", tmp_path / "r.json")
    assert message.endswith("results of other frames, such as 'z'; the frames here are called 'a'")


def test_a_detector_looks_at_every_frame(tmp_path: Path, checkpoint: Path):
    """The page shows what ``Detector`` gives for the same files."""
    from pcdet_distill.inference import load_detector

    files = [tmp_path / "scans" / f"{name}.npy" for name in ("a", "b")]
    for number, file in enumerate(files):
        write_cloud(file, 2000 + number)
    words = ["--cfg_file", CONFIG, "--ckpt", checkpoint, "--device", "cpu"]
    scene = view(tmp_path, tmp_path / "scans", *words)
    assert scene["sources"] == [{"id": "student", "title": "detections"}]
    detector = load_detector(CONFIG, checkpoint, device="cpu")
    total = 0
    for number, file in enumerate(files):
        found = detector(file)
        rows = boxes_of(scene, number, "student")
        total += len(rows)
        assert [scene["classes"][row["kind"]] for row in rows] == found.names.tolist()
        np.testing.assert_allclose([row["score"] for row in rows], found.scores, atol=1e-4)
        boxes = np.array([row["box"] for row in rows]).reshape(-1, found.boxes.shape[1])
        np.testing.assert_allclose(boxes, found.boxes, atol=1e-3)
    assert total > 0


def test_a_teacher_needs_a_yaml_that_names_it(tmp_path: Path, capsys, checkpoint: Path):
    write_cloud(tmp_path / "scan.npy")
    words = ["--cfg_file", "synthetic/pointpillar_teacher.yaml", "--teacher_ckpt", checkpoint]
    message = error_of(capsys, tmp_path / "scan.npy", *words)
    assert message.endswith(
        "names no DISTILL.TEACHER; expected --teacher_cfg, the yaml of the teacher"
    )


def test_teacher_and_student_of_yamls(tmp_path: Path, checkpoint: Path):
    write_cloud(tmp_path / "scan.npy", 3000)
    words = ["--cfg_file", CONFIG, "--ckpt", checkpoint, "--device", "cpu"]
    words += ["--teacher_cfg", CONFIG, "--teacher_ckpt", checkpoint]
    scene = view(tmp_path, tmp_path / "scan.npy", *words)
    teacher = [row["box"] for row in boxes_of(scene, 0, "teacher")]
    assert teacher == [row["box"] for row in boxes_of(scene, 0, "student")]
    assert len(teacher) > 0


def test_a_cloud_that_a_detector_cannot_read_is_left_out_and_said(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
):
    write_cloud(tmp_path / "scans" / "a.npy", 2000)
    np.save(tmp_path / "scans" / "b.npy", np.full((50, 4), np.nan, np.float32))
    words = ["--cfg_file", CONFIG, "--ckpt", checkpoint, "--device", "cpu"]
    scene = view(tmp_path, tmp_path / "scans", *words)
    assert [frame["name"] for frame in scene["frames"]] == ["a"]
    assert "left out: " in capsys.readouterr().err


def test_an_argoverse_log_is_shown_with_its_labels(tmp_path: Path):
    scene = view(tmp_path, write_log(tmp_path / "log", 2))
    assert len(scene["frames"]) == 2
    assert len(boxes_of(scene, 0, "truth")) == 3


def test_labels_of_two_kinds_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for name in ("a", "b"):
        write_cloud(tmp_path / "scans" / f"{name}.npy")
    line = " ".join(map(str, BOX))
    (tmp_path / "scans" / "a.txt").write_text(f"{line} Car\n")
    (tmp_path / "scans" / "b.json").write_text("[]")
    scene = view(tmp_path, tmp_path / "scans")
    assert len(scene["frames"]) == 2
    assert "without labels: " in capsys.readouterr().err


def test_max_points_thins_every_frame(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for name in ("a", "b"):
        write_cloud(tmp_path / "scans" / f"{name}.npy", 500)
    scene = view(tmp_path, tmp_path / "scans", "--max_points", "200")
    assert [frame["count"] for frame in scene["frames"]] == [200, 200]
    told = capsys.readouterr().err
    assert "200 of 500 points shown, drawn evenly (1 more frames likewise)" in told


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{tmp}/nowhere"], "no such file or folder"),
        (["{tmp}/empty"], "holds no point clouds"),
        (["{tmp}/empty.bin"], "empty.bin: is empty; expected points"),
        (["{tmp}/scan.npy", "--out", "{tmp}/empty"], "is a folder; expected a file"),
        (["{tmp}/scan.npy", "--out", "{tmp}/scan.npy/v.html"], "cannot be written"),
        (["{tmp}/scan.npy", "--max_points", "0"], "--max_points 0: expected 1 or more"),
        (["{tmp}/scan.npy", "--ckpt", "a.pth"], "expected --cfg_file too"),
        (["{tmp}/scan.npy", "--results", "{tmp}/no.pkl"], "no.pkl: this info file does not exist"),
        (["{tmp}/scan.npy", "--labels", "{tmp}/no"], "no such file or folder"),
        ([], "expected a folder, a file, or --cfg_file"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path: Path, capsys, words: list[str], message: str):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.bin").touch()
    write_cloud(tmp_path / "scan.npy")
    assert message in error_of(capsys, *(word.format(tmp=tmp_path) for word in words))


def test_one_point_and_bad_points(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    np.save(tmp_path / "one.npy", np.array([[1.0, 2.0, 3.0, 0.5]], np.float32))
    scene = view(tmp_path, tmp_path / "one.npy")
    assert points_of_frame(scene["frames"][0])[0].tolist() == [[1.0, 2.0, 3.0]]
    points = write_cloud(tmp_path / "bad.npy", 100)
    points[:60, 1] = np.nan
    np.save(tmp_path / "bad.npy", points)
    scene = view(tmp_path, tmp_path / "bad.npy")
    assert scene["frames"][0]["count"] == 40
    assert "60 of 100 points hold NaN or infinity, left out" in capsys.readouterr().err
