"""The demo: point files in, boxes and pictures out, and a sentence for what cannot be read."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_argoverse2 import write_log

from pcdet_distill import demo
from pcdet_distill.checkpoint import save_checkpoint
from pcdet_distill.config import load_config
from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.errors import CheckpointError, ConfigError, DataError
from pcdet_distill.inference import CloudProcessing, Detections, load_detector
from pcdet_distill.models import build_network

CONFIG = "cfgs/synthetic/pointpillar_student.yaml"


@pytest.fixture
def arguments(tmp_path: Path, repo: Path):
    """The demo's arguments: a fitting checkpoint and a folder of scans; keywords replace flags."""
    cfg = load_config(repo / CONFIG)
    torch.manual_seed(0)
    model = build_network(cfg.MODEL, 3, DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES))
    # Scores of about one half: the untrained model then detects many boxes.
    torch.nn.init.constant_(model.dense_head.conv_cls.bias, 0.0)
    save_checkpoint({"model_state": model.state_dict()}, tmp_path / "model.pth")
    scans = tmp_path / "scans"
    scans.mkdir()
    points = (
        np.random.RandomState(0)
        .uniform([0, -10, -2, 0], [40, 10, 1, 1], (800, 4))
        .astype(np.float32)
    )
    points.tofile(scans / "b.bin")
    points[:400].tofile(scans / "a.bin")
    np.save(scans / "c.npy", points)

    def parse(**changes: str) -> argparse.Namespace:
        flags = {
            "cfg_file": str(repo / CONFIG),
            "data_path": str(scans),
            "ckpt": str(tmp_path / "model.pth"),
            "out": str(tmp_path / "out"),
            "device": "cpu",
            **changes,
        }
        words = []
        for name, value in flags.items():
            words += [f"--{name}", value]
        return demo.add_demo_arguments(argparse.ArgumentParser()).parse_args(words)

    return parse


def test_every_file_of_a_folder_is_drawn_and_printed(arguments, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    pictures = demo.run_demo(arguments())
    assert pictures == [tmp_path / "out" / "a.png", tmp_path / "out" / "b.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    printed = capsys.readouterr().out
    assert f"{tmp_path / 'scans' / 'a.bin'}: " in printed
    assert "heading" in printed


def test_the_sweeps_of_an_argoverse_log_are_drawn(arguments, tmp_path, capsys):
    """Not its tables, which are .feather files too."""
    pytest.importorskip("matplotlib")
    log = write_log(tmp_path / "log", 2)
    pictures = demo.run_demo(arguments(data_path=str(log), divide_intensity="255"))
    sweeps = sorted((log / "sensors" / "lidar").iterdir())
    assert [picture.stem for picture in pictures] == [sweep.stem for sweep in sweeps]


def test_bin_and_npy_give_the_same_boxes(arguments, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    found = []
    for name in ("b.bin", "c.npy"):
        demo.run_demo(arguments(data_path=str(tmp_path / "scans" / name)))
        lines = capsys.readouterr().out.splitlines()
        found.append([line for line in lines if "heading" in line])
    assert found[0] == found[1]
    assert found[0]


def test_boxes_under_the_lowest_score_are_left_out(arguments, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    demo.run_demo(arguments(data_path=str(tmp_path / "scans" / "b.bin"), score="1.0"))
    assert "b.bin: 0 objects" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"data_path": "nowhere"}, DataError, "nowhere: no such file or folder"),
        ({"data_path": "EMPTY"}, DataError, r"holds no '\*.bin' file"),
        ({"data_path": "TORN"}, DataError, "torn.bin"),
        ({"data_path": "WIDE"}, DataError, r"expected numbers of shape \(N, 4\)"),
        ({"ckpt": "nowhere.pth"}, CheckpointError, "nowhere.pth"),
        ({"cfg_file": "DATASET"}, ConfigError, "expected the yaml of a detector"),
        ({"divide_intensity": "0"}, ConfigError, "--divide_intensity 0.0: expected more than 0"),
        ({"ext": ".ply"}, DataError, r"holds no '\*.ply' file; it holds .bin, .npy"),
    ],
)
def test_what_cannot_be_used_is_named(arguments, tmp_path, repo, change, error, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn.bin").write_bytes(b"12345")
    np.save(tmp_path / "wide.npy", np.zeros((3, 5)))
    places = {
        "EMPTY": tmp_path / "empty",
        "TORN": tmp_path / "torn.bin",
        "WIDE": tmp_path / "wide.npy",
        "DATASET": repo / "cfgs" / "synthetic" / "dataset.yaml",
    }
    with pytest.raises(error, match=words):
        demo.run_demo(
            arguments(**{flag: str(places.get(value, value)) for flag, value in change.items()})
        )


def structured_points(folder: Path) -> np.ndarray:
    """The points of b.bin of the fixture."""
    return np.fromfile(folder / "b.bin", np.float32).reshape(-1, 4)


def clouds_of(arguments, path: Path, **flags: str) -> CloudProcessing:
    """The demo's dataset for a file or folder."""
    parsed = arguments(data_path=str(path), **flags)
    return demo.dataset_of(load_config(parsed.cfg_file), parsed)


def write_pcd(path: Path, points: np.ndarray, names: str = "x y z intensity") -> Path:
    count = len(names.split())
    header = (
        f"# .PCD v0.7\nVERSION 0.7\nFIELDS {names}\nSIZE {'4 ' * count}\nTYPE {'F ' * count}\n"
        f"WIDTH {len(points)}\nHEIGHT 1\nPOINTS {len(points)}\nDATA binary\n"
    )
    path.write_bytes(header.encode() + np.ascontiguousarray(points, "<f4").tobytes())
    return path


def lidar_points() -> np.ndarray:
    """(960, 5) x, y, z, intensity of 0..1 and ring."""
    random = np.random.RandomState(1)
    points = random.uniform([0, -10, -2, 0], [40, 10, 1, 1], (960, 4))
    return np.column_stack([points, np.arange(960) % 32]).astype(np.float32)


def test_every_format_gives_the_same_points(arguments, tmp_path) -> None:
    points = structured_points(tmp_path / "scans")
    pcd = write_pcd(tmp_path / "c.pcd", points[:, [3, 2, 1, 0]], "intensity z y x")
    np.savez(tmp_path / "c.npz", points=points)
    for path in (pcd, tmp_path / "c.npz"):
        item = clouds_of(arguments, path).load_frame(0)
        np.testing.assert_array_equal(item["points"], points)
        assert item["frame_id"] == "c"


def test_a_folder_of_one_other_format_needs_no_flag(arguments, tmp_path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    write_pcd(folder / "b.pcd", lidar_points()[:, :4])
    write_pcd(folder / "a.PCD", lidar_points()[:, :4])
    (folder / "notes.txt").write_text("none")
    dataset = clouds_of(arguments, folder)
    assert [dataset.clouds.name(index) for index in range(len(dataset))] == ["a", "b"]


def test_columns_of_a_file_that_the_model_does_not_read_are_left_out(arguments, tmp_path) -> None:
    path = write_pcd(tmp_path / "a.pcd", lidar_points(), "x y z i ring")
    np.testing.assert_array_equal(
        clouds_of(arguments, path).load_frame(0)["points"], lidar_points()[:, :4]
    )


def test_five_columns_are_not_read_as_four(arguments, tmp_path) -> None:
    """JOURNEY: such a file gave boxes, all of them wrong."""
    path = tmp_path / "five.bin"
    lidar_points().tofile(path)
    words = "five.bin: 4 columns are asked for, .* repeat every 5 numbers.*--columns names"
    with pytest.raises(DataError, match=words):
        clouds_of(arguments, path).load_frame(0)
    dataset = clouds_of(arguments, path, columns="x, y,z,intensity,ring")
    np.testing.assert_array_equal(dataset.load_frame(0)["points"], lidar_points()[:, :4])


@pytest.mark.parametrize("num_points", [960, 961, 962, 963])
def test_a_pcd_called_bin_is_named(arguments, tmp_path, num_points: int) -> None:
    points = np.tile(lidar_points()[:, :4], (2, 1))[:num_points]
    path = write_pcd(tmp_path / "a.pcd", points).rename(tmp_path / "a.bin")
    with pytest.raises(DataError, match="a.bin: holds the content of a .pcd file"):
        clouds_of(arguments, path).load_frame(0)


def test_another_scale_of_intensity_is_warned_of_and_converted(arguments, tmp_path, capsys) -> None:
    points = lidar_points()[:, :4]
    points[:, 3] = np.round(255 * points[:, 3])
    path = write_pcd(tmp_path / "a.pcd", points)
    clouds_of(arguments, path).load_frame(0)
    printed = capsys.readouterr().err
    assert f"warning: {path}: its intensities look like 0..255" in printed
    assert "KittiDataset are 0..1" in printed
    assert "--divide_intensity 255 converts them" in printed
    item = clouds_of(arguments, path, divide_intensity="255").load_frame(0)
    assert "its intensities look" not in capsys.readouterr().err
    np.testing.assert_allclose(item["points"][:, 3], points[:, 3] / 255)
    np.testing.assert_array_equal(item["points"][:, :3], points[:, :3])


def test_the_scale_of_the_training_data_is_looked_up(arguments, tmp_path, capsys) -> None:
    """Own data in KITTI's layout, with intensities of 0..255."""
    points = lidar_points()[:, :4]
    dark = write_pcd(tmp_path / "dark.pcd", points)
    points[:, 3] = np.round(255 * points[:, 3])
    bright = write_pcd(tmp_path / "bright.pcd", points)
    frames = tmp_path / "data" / "training" / "velodyne"
    frames.mkdir(parents=True)
    points.tofile(frames / "000000.bin")
    for path, words in ((bright, None), (dark, "training/velodyne/000000.bin are 0..255")):
        parsed = arguments(data_path=str(path))
        cfg = load_config(parsed.cfg_file, ["DATA_CONFIG.DATA_PATH", str(tmp_path / "data")])
        demo.dataset_of(cfg, parsed).load_frame(0)
        printed = capsys.readouterr().err
        assert ("makes detections wrong" in printed) == (words is not None)
        assert (words or "") in printed


def test_a_missing_column_is_named(arguments, tmp_path) -> None:
    path = write_pcd(tmp_path / "a.pcd", lidar_points()[:, :3], "x y z")
    with pytest.raises(DataError, match="a.pcd: has no column 'intensity'; its columns are x, y"):
        clouds_of(arguments, path).load_frame(0)


def test_points_without_numbers_are_left_out_and_counted(arguments, tmp_path, capsys) -> None:
    points = lidar_points()[:, :4]
    points[:7, 0] = np.nan
    dataset = clouds_of(arguments, write_pcd(tmp_path / "a.pcd", points))
    np.testing.assert_array_equal(dataset.load_frame(0)["points"], points[7:])
    dataset.load_frame(0)
    points[7, 1] = np.inf
    write_pcd(tmp_path / "a.pcd", points)
    assert len(dataset.load_frame(0)["points"]) == 952
    assert capsys.readouterr().err.count("of 960 points hold NaN or infinity") == 1
    points[:, 0] = np.nan
    with pytest.raises(DataError, match="all its points hold NaN"):
        clouds_of(arguments, write_pcd(tmp_path / "a.pcd", points)).load_frame(0)


def test_without_arguments_the_shipped_student_sees_the_shipped_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """Before any training, from any folder, and without the package safetensors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    args = demo.add_demo_arguments(argparse.ArgumentParser()).parse_args(["--device", "cpu"])
    (picture,) = demo.run_demo(args)
    assert picture.is_file()
    lines = capsys.readouterr()
    assert lines.err == ""  # the scan is like those that the student learnt from
    words = [line.split()[0] for line in lines.out.splitlines()[2:-1]]
    assert str(demo.SHIPPED_CHECKPOINT) in lines.out
    # What the scene holds: frame 328 of the data of assets/README.md.
    assert words.count("Car") >= 3
    assert words.count("Pedestrian") >= 2
    assert words.count("Cyclist") >= 2


def test_the_shipped_student_reads_scans_of_your_own(arguments, tmp_path) -> None:
    flags = ["--data_path", str(tmp_path / "scans" / "a.bin"), "--out", str(tmp_path / "out")]
    arguments()  # makes the scans
    args = demo.add_demo_arguments(argparse.ArgumentParser()).parse_args(flags)
    assert len(demo.run_demo(args)) == 1


def test_a_teacher_and_two_students_are_compared(tmp_path: Path, capsys) -> None:
    parser = demo.add_demo_arguments(argparse.ArgumentParser())
    args = parser.parse_args(["--compare", "--device", "cpu", "--out", str(tmp_path)])
    assert demo.run_demo(args) == [tmp_path / "scan_compared.png"]
    lines = capsys.readouterr()
    assert lines.err == ""
    titles = [line.split(":")[0].strip() for line in lines.out.splitlines()[2:-1]]
    assert titles == ["teacher", "student", "student with init"]


def test_the_shipped_teacher_finds_the_boxes_of_the_shipped_scan() -> None:
    """They are the ground truth of this scan, and the teacher's file has whole numbers."""
    shipped = demo.COMPARED[0]
    found = load_detector(shipped.cfg_file, shipped.checkpoint, device="cpu")(demo.SHIPPED_SCAN)
    truth = np.load(demo.SHIPPED_BOXES)
    in_range = truth["boxes"][:, 0] < 46
    assert in_range.sum() == 7
    for name, box in zip(truth["names"][in_range], truth["boxes"][in_range]):
        of_class = found.boxes[found.names == name]
        assert np.linalg.norm(of_class[:, :2] - box[:2], axis=1).min() < 0.5


@pytest.mark.parametrize("shipped", demo.COMPARED, ids=lambda shipped: shipped.title)
def test_the_compared_networks_are_small_and_fit_their_yaml(shipped: demo.ShippedModel) -> None:
    assert shipped.checkpoint.stat().st_size < 1_400_000
    detector = load_detector(shipped.cfg_file, shipped.checkpoint, device="cpu")
    assert {parameter.dtype for parameter in detector.model.parameters()} == {torch.float32}


def test_the_comparison_brings_its_own_networks(arguments) -> None:
    args = arguments()
    args.compare = True
    with pytest.raises(ConfigError, match="leave out --cfg_file and --ckpt"):
        demo.run_demo(args)


def test_found_objects_are_counted_by_class() -> None:
    names = np.array(["Car", "Cyclist", "Car"])
    boxes = np.zeros((3, 7), np.float32)
    found = Detections(boxes, np.ones(3, np.float32), np.array([1, 3, 1]), names)
    assert demo.counted(found) == "3 objects: 2 Car, 1 Cyclist"


@pytest.mark.parametrize(("given", "missing"), [("cfg_file", "ckpt"), ("ckpt", "cfg_file")])
def test_yaml_and_checkpoint_come_together(given: str, missing: str) -> None:
    args = demo.add_demo_arguments(argparse.ArgumentParser()).parse_args([f"--{given}", "x"])
    with pytest.raises(ConfigError, match=f"--{missing} is missing"):
        demo.run_demo(args)


def test_shipped_files_are_small_and_fit_their_yaml() -> None:
    assert demo.SHIPPED_CHECKPOINT.stat().st_size < 1_000_000
    assert demo.SHIPPED_SCAN.stat().st_size < 300_000
    detector = load_detector(demo.SHIPPED_CONFIG, demo.SHIPPED_CHECKPOINT, device="cpu")
    assert len(detector(demo.SHIPPED_SCAN)) > 5
