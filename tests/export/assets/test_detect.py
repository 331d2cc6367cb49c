"""detect.py against the package: the same pillars, the same kept boxes, without torch."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from pcdet_distill.datasets.readers.cloud import scale_of_intensity
from pcdet_distill.models.backbones_3d.vfe.dynamic_pillar_vfe import GroupedPoints
from pcdet_distill.models.detectors.post_processing import (
    FramePredictions,
    select_boxes,
    select_boxes_of_heads,
)
from pcdet_distill.ops.nms import nms, nms_circle, nms_normal
from pcdet_distill.ops.voxels import voxelize

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from runtime_folders import (  # noqa: E402
    GRID,
    HEAD,
    NMS,
    PCD_HEADER,
    PROGRAMS,
    RANGE_M,
    SIZE_M,
    config_of,
    crowded_boxes,
    load_program,
    random_points,
    write_folder,
)

NO_BOXES = {"boxes": np.zeros((0, 7), np.float32), "scores": np.zeros((0, 3), np.float32)}


@pytest.fixture(scope="module")
def detect() -> ModuleType:
    """detect.py as a module."""
    return load_program("detect")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An exported folder whose network finds nothing."""
    return write_folder(tmp_path / "model", NO_BOXES)


@pytest.mark.parametrize("count", [0, 1, 2, 500, 60_000])
@pytest.mark.parametrize(("max_points", "max_voxels"), [(32, 40_000), (3, 200), (1, 1)])
def test_pillars_are_those_of_the_package(
    detect: ModuleType, tmp_path: Path, count: int, max_points: int, max_voxels: int
) -> None:
    config = config_of()
    config["voxels"].update(max_points=max_points, max_voxels=max_voxels)
    detector = detect.Detector(write_folder(tmp_path, NO_BOXES, config))
    points = random_points(count)
    voxels, coords, num_points = voxelize(points, RANGE_M, SIZE_M, max_points, max_voxels)
    inputs = detector.voxelise(points)
    np.testing.assert_array_equal(inputs["voxels"], voxels)
    np.testing.assert_array_equal(inputs["voxel_coords"], coords)
    np.testing.assert_array_equal(inputs["voxel_num_points"], num_points)
    for name, value in zip(("voxels", "voxel_coords", "voxel_num_points"), (voxels, coords)):
        assert inputs[name].dtype == value.dtype


def test_pillars_of_many_layers_and_more_than_16_bits(detect: ModuleType, tmp_path: Path) -> None:
    config = config_of()
    size = [0.16, 0.16, 0.4]
    config["voxels"].update(size_m=size, grid=[*GRID[:2], 10], max_points=5, max_voxels=100_000)
    detector = detect.Detector(write_folder(tmp_path, NO_BOXES, config))
    points = random_points(300_000)
    voxels, coords, num_points = voxelize(points, RANGE_M, size, 5, 100_000)
    assert len(coords) > 65_536
    inputs = detector.voxelise(points)
    np.testing.assert_array_equal(inputs["voxels"], voxels)
    np.testing.assert_array_equal(inputs["voxel_coords"], coords)
    np.testing.assert_array_equal(inputs["voxel_num_points"], num_points)


def test_dynamic_pillars_are_those_of_the_package(detect: ModuleType, tmp_path: Path) -> None:
    config = config_of()
    config["voxels"].update(kind="dynamic", max_points=None, max_voxels=None)
    detector = detect.Detector(write_folder(tmp_path, NO_BOXES, config))
    points = random_points(20_000)
    inputs = detector.voxelise(points)
    frame = np.zeros((len(points), 1), np.float32)
    grouped = GroupedPoints.from_points(
        torch.from_numpy(np.concatenate([frame, points], axis=1)),
        torch.tensor(RANGE_M[:3]),
        torch.tensor(SIZE_M),
        GRID[:2],
    )

    def sorted_rows(coords: np.ndarray, pillar: np.ndarray, points: np.ndarray) -> np.ndarray:
        rows = np.concatenate([coords[pillar], points], axis=1)
        return rows[np.lexsort(rows.T)]

    found = sorted_rows(inputs["voxel_coords"], inputs["point_pillar"], inputs["points"])
    cells = grouped.cells.numpy().copy()
    cells[:, 0] = 0
    expected = sorted_rows(cells, grouped.rows.pillar.numpy(), grouped.points.numpy())
    np.testing.assert_array_equal(found, expected)


def test_points_on_the_borders_of_cells(detect: ModuleType, folder: Path) -> None:
    """Rounding decides here, so it must be that of float32 in the same order of operations."""
    steps = np.arange(0, 432, dtype=np.float32)
    points = np.zeros((len(steps), 4), np.float32)
    points[:, 0] = steps * np.float32(0.16)
    points[:, 1] = np.float32(-39.68) + steps * np.float32(0.16)
    points = np.concatenate([points, np.float32([RANGE_M[3:] + [0], RANGE_M[:3] + [0]])])
    _, coords, _ = voxelize(points, RANGE_M, SIZE_M, 32, 40_000)
    inputs = detect.Detector(folder).voxelise(points)
    np.testing.assert_array_equal(inputs["voxel_coords"], coords)


def test_a_network_that_onnxruntime_cannot_load(detect: ModuleType, folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"no network")
    config = json.loads((folder / "config.json").read_text())
    config["model_sha256"] = hashlib.sha256(b"no network").hexdigest()
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(detect.DetectError, match=r"cannot load model\.onnx"):
        detect.Detector(folder)


def test_points_with_nan_are_left_out_and_columns_are_scaled(
    detect: ModuleType, tmp_path: Path
) -> None:
    config = config_of()
    config["points"]["scale"] = [1.0, 1.0, 1.0, 1 / 255]
    detector = detect.Detector(write_folder(tmp_path, NO_BOXES, config))
    points = np.float32([[5, 0, 0, 51], [np.nan, 0, 0, 1], [5, 0, 0, np.inf]])
    inputs = detector.voxelise(points)
    assert inputs["voxel_num_points"].tolist() == [1]
    np.testing.assert_allclose(inputs["voxels"][0, 0], [5, 0, 0, 0.2])


@pytest.mark.parametrize("threshold", [0.01, 0.2, 0.7])
@pytest.mark.parametrize("limits", [(4096, 500), (100, 20), (None, None)])
@pytest.mark.parametrize(
    ("kind", "ours"), [("rotated", nms), ("axis_aligned", nms_normal), ("circle", nms_circle)]
)
def test_nms_keeps_the_boxes_of_the_package(
    detect: ModuleType, kind: str, ours, threshold: float, limits: tuple[int | None, int | None]
) -> None:
    pre, post = limits
    settings = {"kind": kind, "threshold": threshold, "pre_maxsize": pre, "post_maxsize": post}
    for seed in range(8):
        random = np.random.RandomState(seed)
        boxes, scores = crowded_boxes(300, random)
        boxes[:5] = boxes[5:10]  # copies: their outlines lie on one another
        values = np.round(scores[:, 0], 2)  # some are equal
        tensors = torch.from_numpy(boxes), torch.from_numpy(values)
        expected = ours(*tensors, threshold, pre_maxsize=pre, post_maxsize=post)
        assert detect.keep_best(boxes, values, settings).tolist() == expected.tolist()


def test_nms_of_no_boxes_and_of_broken_ones(detect: ModuleType) -> None:
    settings = {"kind": "rotated", "threshold": 0.1, "pre_maxsize": 9, "post_maxsize": 9}
    empty = np.zeros((0, 7), np.float32), np.zeros(0, np.float32)
    assert len(detect.keep_best(*empty, settings)) == 0
    boxes = np.float32([[0, 0, 0, np.inf, 2, 2, 0], [0, 0, 0, 4, 2, 2, np.nan], [0] * 7, [0] * 7])
    scores = np.float32([0.9, 0.8, 0.7, 0.6])
    expected = nms(torch.from_numpy(boxes), torch.from_numpy(scores), 0.1)
    assert detect.keep_best(boxes, scores, settings).tolist() == expected.tolist()


def settings_of(by_class: bool) -> dict[str, object]:
    """POST_PROCESSING of a yaml."""
    nms_config = {
        "MULTI_CLASSES_NMS": by_class,
        "NMS_TYPE": "nms_gpu",
        "NMS_THRESH": 0.1,
        "NMS_PRE_MAXSIZE": 4096,
        "NMS_POST_MAXSIZE": 500,
    }
    return {"SCORE_THRESH": 0.3, "NMS_CONFIG": nms_config}


def check_equal(found, expected: dict[str, torch.Tensor], class_names: list[str]) -> None:
    """The same boxes, sorted by score."""
    boxes, scores, names = found
    order = expected["pred_scores"].argsort(descending=True, stable=True)
    np.testing.assert_array_equal(boxes, expected["pred_boxes"][order].numpy())
    np.testing.assert_array_equal(scores, expected["pred_scores"][order].numpy())
    labels = expected["pred_labels"][order].tolist()
    assert names == [class_names[label - 1] for label in labels]
    assert len(boxes) > 10


@pytest.mark.parametrize("by_class", [False, True])
def test_boxes_of_an_anchor_head(detect: ModuleType, tmp_path: Path, by_class: bool) -> None:
    boxes, scores = crowded_boxes(800, np.random.RandomState(3))
    scores[7, 1] = np.float32(0.3)  # equal to the threshold
    config = config_of()
    config["post_processing"]["score_threshold"] = 0.3
    if by_class:
        groups = [{**NMS, "label": label} for label in (1, 2, 3)]
        config["post_processing"]["nms"] = groups
    detector = detect.Detector(
        write_folder(tmp_path, {"boxes": boxes, "scores": scores}, config), threads=1
    )
    frame = FramePredictions(torch.from_numpy(boxes), torch.from_numpy(scores), normalized=True)
    expected = select_boxes(frame, settings_of(by_class))
    check_equal(detector(random_points(100)), expected, config["class_names"])


@pytest.mark.parametrize("by_class", [False, True])
def test_boxes_of_several_heads(detect: ModuleType, tmp_path: Path, by_class: bool) -> None:
    random = np.random.RandomState(4)
    boxes_0, scores_0 = crowded_boxes(300, random, classes=1)
    boxes_1, scores_1 = crowded_boxes(400, random, classes=2)
    outputs = {"boxes_0": boxes_0, "scores_0": scores_0, "boxes_1": boxes_1, "scores_1": scores_1}
    config = config_of()
    columns = [[2], [3, 1]]
    config["heads"] = [
        {**HEAD, "boxes": f"boxes_{n}", "scores": f"scores_{n}", "column_labels": columns[n]}
        for n in (0, 1)
    ]
    groups = [{**NMS, "heads": [0, 1]}]
    if by_class:
        groups = [{**NMS, "heads": [h], "label": label} for h, label in ((0, 2), (1, 3), (1, 1))]
    config["post_processing"].update(nms=groups, score_threshold=0.3)
    detector = detect.Detector(write_folder(tmp_path, outputs, config), threads=1)
    expected = select_boxes_of_heads(
        torch.from_numpy(np.concatenate([boxes_0, boxes_1])),
        [torch.from_numpy(scores_0), torch.from_numpy(scores_1)],
        [torch.tensor(labels) for labels in columns],
        settings_of(by_class),
        normalized=True,
    )
    check_equal(detector(random_points(100)), expected, config["class_names"])


def test_boxes_of_a_centre_head(detect: ModuleType, tmp_path: Path) -> None:
    """Labels from the network, filtered by other scores than those that are sorted, by range."""
    boxes = np.float32([[x, 0, -1, 4, 2, 1.5, 0, 1, 2] for x in (10, 10.5, 20, 30, 200)])
    scores = np.float32([0.5, 0.9, 0.05, 0.8, 0.99])
    filtered = np.float32([0.5, 0.9, 0.4, 0.1, 0.99])
    outputs = {"boxes": boxes, "scores": scores, "filter": filtered}
    outputs["labels"] = np.int32([1, 1, 2, 3, 1])
    config = config_of()
    config["heads"] = [{**HEAD, "labels": "labels", "column_labels": [], "filter_scores": "filter"}]
    config["post_processing"].update(keeps_equal=False, centre_range_m=[0, -40, -5, 70, 40, 5])
    detector = detect.Detector(write_folder(tmp_path, outputs, config), threads=1)
    found_boxes, found_scores, names = detector(random_points(10))
    np.testing.assert_array_equal(found_boxes, boxes[[1, 2]])
    np.testing.assert_array_equal(found_scores, scores[[1, 2]])
    assert names == ["Car", "Pedestrian"]


WITHOUT_TORCH = """
import sys

class Refuse:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.split(".")[0] in ("torch", "pcdet_distill", "numba", "onnx", "scipy", "yaml"):
            raise ImportError(f"{name} is refused here")

sys.meta_path.insert(0, Refuse)
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rsplit("/", 1)[0])
import detect
detect.main()
"""


def run_program(*arguments: object) -> subprocess.CompletedProcess[str]:
    """detect.py where nothing but numpy and onnxruntime can be imported."""
    words = [str(argument) for argument in arguments]
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(PROGRAMS / "detect.py"), *words],
        capture_output=True,
        text=True,
    )


def test_program_without_torch(tmp_path: Path) -> None:
    boxes, scores = crowded_boxes(100, np.random.RandomState(0))
    write_folder(tmp_path, {"boxes": boxes, "scores": scores})
    random_points(1000).tofile(tmp_path / "cloud.bin")
    run = run_program(tmp_path / "cloud.bin", "--folder", tmp_path, "--out", tmp_path / "b.json")
    assert run.returncode == 0, run.stderr
    found = json.loads((tmp_path / "b.json").read_text())
    assert len(found["boxes"]) == len(found["names"]) == len(found["scores"]) > 3
    assert len(run.stdout.splitlines()) == len(found["boxes"]) + 1
    assert "network" in run.stdout.splitlines()[-1]


@pytest.mark.parametrize("learnt", [1.0, 255.0, None])
@pytest.mark.parametrize("largest", [0.4, 1.0, 200.0, 255.0, 40_000.0])
def test_intensities_of_another_scale_are_doubted(
    detect: ModuleType, tmp_path: Path, learnt: float | None, largest: float
) -> None:
    config = config_of()
    config["points"]["largest_intensity"] = learnt
    detector = detect.Detector(write_folder(tmp_path, NO_BOXES, config))
    points = random_points(400)
    points[:, 3] = np.linspace(0, largest, 400)
    points[7, 3] = np.nan
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        detector(points)
    found = scale_of_intensity(points[:, 3])
    if learnt in (None, found):
        assert not told
    else:
        expected = f"look like 0..{found:g}, but the model learnt 0..{learnt:g}"
        assert [expected in str(warning.message) for warning in told] == [True]
        factor = float(str(told[0].message).rsplit(" ", 1)[1])
        assert factor == pytest.approx(learnt / found, rel=1e-4)


@pytest.mark.filterwarnings("error")
def test_a_few_bright_points_and_no_points_are_not_doubted(
    detect: ModuleType, tmp_path: Path
) -> None:
    config = config_of()
    config["points"]["largest_intensity"] = 1.0
    detector = detect.Detector(write_folder(tmp_path, NO_BOXES, config))
    points = random_points(400)
    points[:, 3] = 0.5
    points[:3, 3] = 4.0
    detector(points)
    config["points"]["largest_intensity"] = 255.0
    detector = detect.Detector(write_folder(tmp_path, NO_BOXES, config))
    detector(np.zeros((0, 4), np.float32))
    detector(np.full((5, 4), np.nan, np.float32))


def test_the_command_warns_in_one_line(tmp_path: Path) -> None:
    config = config_of()
    config["points"]["largest_intensity"] = 255.0
    write_folder(tmp_path, NO_BOXES, config)
    random_points(1000).tofile(tmp_path / "cloud.bin")
    command = [sys.executable, PROGRAMS / "detect.py", tmp_path / "cloud.bin", "--folder", tmp_path]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0
    assert run.stderr.startswith("warning: intensities look like 0..1, but the model learnt 0..255")
    assert len(run.stderr.splitlines()) == 1


def refused(detect: ModuleType, *arguments: object) -> str:
    """The sentence that the command line ends with."""
    with pytest.raises(SystemExit) as stop:
        detect.main([str(argument) for argument in arguments])
    message = str(stop.value)
    assert message.startswith("error: ") and "\n" not in message
    return message


def test_bad_files_are_one_sentence(
    detect: ModuleType, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(PROGRAMS))  # as for a program that is run
    good = tmp_path / "good.bin"
    random_points(10).tofile(good)
    np.zeros(7, np.float32).tofile(tmp_path / "odd.bin")
    np.save(tmp_path / "flat.npy", np.zeros(8))
    (tmp_path / "text.npy").write_text("x y z")
    np.savez(tmp_path / "no_points.npz", other=np.zeros((2, 4)))
    (tmp_path / "cut.pcd").write_text(PCD_HEADER.format(count=9, kind="binary"))
    (tmp_path / "packed.pcd").write_text(PCD_HEADER.format(count=9, kind="binary_compressed"))
    (tmp_path / "empty.pcd").write_text("")
    header = PCD_HEADER.format(count=0, kind="ascii").replace("Reflectivity", "colour")
    (tmp_path / "blind.pcd").write_text(header)
    for name, word in {
        "none.bin": "no such file",
        "odd.bin": "--columns",
        "flat.npy": "--columns",
        "text.npy": "text.npy",
        "cut.pcd": "cut.pcd cannot be read",
        "packed.pcd": "only ascii and binary",
        "empty.pcd": "empty.pcd",
        "blind.pcd": "also reads intensity",
        "cloud.las": ".bin, .npy, .npz, .pcd",
        "no_points.npz": "points is not a file in the archive",
    }.items():
        assert word in refused(detect, tmp_path / name, "--folder", folder), name
    assert "no such file" in refused(detect, good, "--folder", tmp_path)
    out = tmp_path / "none" / "boxes.json"
    assert refused(detect, good, "--folder", folder, "--out", out) == (
        f"error: {out}: No such file or directory"
    )


def test_model_and_config_must_belong_together(
    detect: ModuleType, folder: Path, tmp_path: Path
) -> None:
    other = write_folder(tmp_path / "other", {**NO_BOXES, "more": np.zeros(1, np.float32)})
    (folder / "model.onnx").write_bytes((other / "model.onnx").read_bytes())
    with pytest.raises(detect.DetectError, match="belongs to another model.onnx"):
        detect.Detector(folder)
    part = write_folder(tmp_path / "part", NO_BOXES, config_of(stages_outside=["backbone_3d"]))
    with pytest.raises(detect.DetectError, match="cannot run alone"):
        detect.Detector(part)
    for damaged in ("{", "{}", "[]", "7"):
        (folder / "config.json").write_text(damaged)
        with pytest.raises(detect.DetectError, match=r"config\.json is damaged: "):
            detect.Detector(folder)


def test_a_folder_that_was_copied_in_part_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "detect.py").write_bytes((PROGRAMS / "detect.py").read_bytes())
    command = [sys.executable, tmp_path / "detect.py", "cloud.bin"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 1
    assert run.stderr == "error: cloud_file.py is missing beside detect.py; copy the whole folder\n"


@pytest.mark.parametrize("shape", [(5,), (5, 3), (5, 5), (2, 5, 4)])
def test_wrong_columns(detect: ModuleType, folder: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(detect.DetectError, match="x, y, z, intensity"):
        detect.Detector(folder)(np.zeros(shape, np.float32))


@pytest.mark.parametrize("points", [np.zeros((0, 4)), [[np.nan] * 4], [[500.0, 0, 0, 0]]])
def test_clouds_in_which_nothing_can_be_seen(
    detect: ModuleType, tmp_path: Path, points: object
) -> None:
    """The network does not run: its answer to no pillars would be its biases."""
    boxes, scores = crowded_boxes(20, np.random.RandomState(0))
    detector = detect.Detector(write_folder(tmp_path, {"boxes": boxes, "scores": scores}))
    found, found_scores, names = detector(points)
    assert found.shape == (0, 7) and found_scores.shape == (0,) and names == []
    assert len(detector([[10.0, 0, 0, 0]])[0]) > 0


def test_two_million_points(detect: ModuleType, folder: Path) -> None:
    boxes, scores, names = detect.Detector(folder)(random_points(2_000_000))
    assert boxes.shape == (0, 7) and scores.shape == (0,) and names == []
