"""Good files of every format that this package reads, for ``fuzz`` to damage.

The data sets are the tiny ones of the tests: a few frames each, with every kind of file.
"""

from __future__ import annotations

import copy
import json
import pickle
import sys
from pathlib import Path

import numpy as np
import torch
import yaml

REPO = Path(__file__).resolve().parents[2]
WRITERS = ("", "readers", "custom", "custom/labels", "argoverse2")  # of tests/datasets
sys.path += [str(REPO / "tests" / "datasets" / folder) for folder in WRITERS]
sys.path.append(str(REPO / "tests" / "models"))

EXPERIMENT = "cfgs/experiment.yaml"  # below cfgs/, so that outputs stay in the corpus
CLASSES = ["Car", "Pedestrian", "Cyclist"]


def make_corpus(root: Path) -> None:
    """Write all files below ``root``."""
    _write_kitti(root / "kitti")
    _write_custom(root / "custom")
    _write_nuscenes(root / "nuscenes")
    _write_argoverse2(root / "argoverse2")
    for record in root.rglob("*.sizes.json"):  # its checksum would refuse most damage at once
        record.unlink()
    for folder in ("clouds", "bags", "labels", "checkpoints", "predicted", "lines"):
        (root / folder).mkdir()
    _write_clouds(root / "clouds")
    _write_bags(root / "bags")
    _write_labels(root / "labels")
    _write_checkpoints(root / "checkpoints")
    _write_predicted(root / "predicted")
    _write_lines(root / "lines")
    _write_yaml(root)


# --- data sets ------------------------------------------------------------------------------------


def _write_kitti(root: Path) -> None:
    from tiny_kitti import TinyKitti, fill

    from pcdet_distill.datasets.kitti.road_planes import create_road_planes

    fill(TinyKitti(root))
    create_road_planes(root, show_progress=False)
    (root / "results").mkdir()
    annotations = pickle.loads((root / "kitti_infos_val.pkl").read_bytes())
    detections = [_detections(info) for info in annotations]
    (root / "results" / "result.pkl").write_bytes(pickle.dumps(detections))


def _detections(info: dict) -> dict:
    """The labels of a frame as if a detector had found them."""
    annos = info["annos"]
    count = len(annos["gt_boxes_lidar"])
    found = {key: annos[key][:count] for key in annos if key != "num_points_in_gt"}
    found["score"] = np.linspace(0.9, 0.1, count)
    found["boxes_lidar"] = annos["gt_boxes_lidar"]
    found["frame_id"] = info["point_cloud"]["lidar_idx"]
    return found


def _write_custom(root: Path) -> None:
    from tiny_custom import fill_custom

    from pcdet_distill.datasets.custom.custom_infos import create_custom_infos

    fill_custom(root)
    create_custom_infos(root, show_progress=False)


def _write_nuscenes(root: Path) -> None:
    from tiny_nuscenes import TinyNuScenes, fill, make_files

    tiny = TinyNuScenes(root)
    fill(tiny)
    make_files(tiny)


def _write_argoverse2(root: Path) -> None:
    from test_argoverse2_dataset import make_infos
    from tiny_argoverse2 import write_folder

    make_infos(write_folder(root))


# --- single files ---------------------------------------------------------------------------------


def _write_clouds(folder: Path) -> None:
    from cloud_writers import scan
    from test_damaged_files import FILES

    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    points = scan(60)
    np.save(folder / "plain.npy", points)
    np.savez(folder / "plain.npz", points=points)
    np.savez_compressed(folder / "columns.npz", x=points[:, 0], y=points[:, 1], z=points[:, 2])
    _write_packaged_clouds(folder, points)


def _write_packaged_clouds(folder: Path, points: np.ndarray) -> None:
    """Formats that other packages read."""
    import laspy
    import pyarrow
    from pyarrow import feather

    columns = {name: points[:, number] for number, name in enumerate("xyz")}
    feather.write_feather(pyarrow.table(columns), folder / "plain.feather")
    las = laspy.LasData(laspy.LasHeader(point_format=1, version="1.4"))
    las.x, las.y, las.z = points[:, 0], points[:, 1], points[:, 2]
    las.write(folder / "plain.las")


def _write_bags(folder: Path) -> None:
    from cloud_writers import scan
    from test_bags import write_bag

    for kind in ("bag", "mcap", "db3"):
        (folder / kind).mkdir()
        made = write_bag(folder / kind, kind, {"/points": [scan(30), scan(20)]})
        made.rename(folder / f"drive.{kind}")


def _write_labels(folder: Path) -> None:
    from test_label_damage import SHAPES, TEXTS

    for number, content in enumerate(SHAPES):
        (folder / f"shape{number}.json").write_text(json.dumps(content))
    for name, text in TEXTS.items():
        (folder / name).write_text(text)


class _Toy(torch.nn.Module):
    """The network of the checkpoints."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)
        self.norm = torch.nn.BatchNorm1d(3)


def toy_training() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """A network and its optimizer, after one step."""
    model = _Toy()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.norm(model.layer(torch.randn(5, 4))).square().sum().backward()
    optimizer.step()
    return model, optimizer


def _write_checkpoints(folder: Path) -> None:
    from safetensors.torch import save_file

    from pcdet_distill.checkpoint import save_checkpoint
    from pcdet_distill.engine.checkpoints import random_state

    model, optimizer = toy_training()
    state = {
        "epoch": 1,
        "it": 10,
        "model_state": model.state_dict(),
        "optimizer_state": optimizer.state_dict(),
        "scaler_state": torch.amp.GradScaler(enabled=False).state_dict(),
        "seed": 0,
        "iterations_per_epoch": 10,
        "random_states": [random_state()],
        "threads": 1,
    }
    save_checkpoint(state, folder / "ours.pth")
    torch.save({key: state[key] for key in list(state)[:4]}, folder / "theirs.pth")
    old = folder / "legacy.pth"
    torch.save(state["model_state"], old, _use_new_zipfile_serialization=False)
    save_file(model.state_dict(), folder / "plain.safetensors")


def _write_predicted(folder: Path) -> None:
    from pcdet_distill.datasets.predicted.frame import FramePredictions
    from pcdet_distill.datasets.predicted.store import LabelledFrame, write_part

    rows, found = 5, 3
    predictions = FramePredictions(
        places=np.zeros((rows, 2), np.float32),
        kinds=np.zeros(rows, np.int16),
        turns=np.zeros(rows, np.float32),
        logits=np.zeros((rows, 3), np.float16),
        boxes=np.ones((rows, 7), np.float32),
        owners=np.array([-1, -1, 0, 0, 1], np.int16),
        detected_boxes=np.ones((found, 7), np.float32),
        detected_scores=np.linspace(0.9, 0.1, found).astype(np.float32),
        detected_labels=np.ones(found, np.int16),
        detected_owners=np.array([-1, 0, 1], np.int16),
    )
    frame = LabelledFrame("000000", predictions, np.ones((2, 3)))
    write_part(folder / "part.npz", [frame], {"count": np.ones((1, 3))})


# --- texts ----------------------------------------------------------------------------------------


def kitti_config() -> dict:
    """A DATA_CONFIG of the KITTI folder, by a path relative to the corpus."""
    from tiny_kitti import DATA_CONFIG

    return {**copy.deepcopy(DATA_CONFIG), "DATA_PATH": "kitti"}


def _write_yaml(root: Path) -> None:
    from small_model import model_config, small_model

    from pcdet_distill.checkpoint import save_checkpoint

    model = json.loads(json.dumps(model_config()))
    base = yaml.safe_load((REPO / "cfgs/synthetic/pointpillar_teacher.yaml").read_text())
    experiment = {
        "CLASS_NAMES": CLASSES,
        "DATA_CONFIG": kitti_config(),
        "MODEL": model,
        "OPTIMIZATION": {**base["OPTIMIZATION"], "NUM_EPOCHS": 1, "BATCH_SIZE_PER_GPU": 2},
    }
    experiment["DATA_CONFIG"]["POINT_CLOUD_RANGE"] = [0, -8, -3, 16, 8, 1]
    (root / "cfgs").mkdir()
    (root / EXPERIMENT).write_text(yaml.safe_dump(experiment, sort_keys=False))
    save_checkpoint({"model_state": small_model().state_dict()}, root / WEIGHTS)


SETTINGS = [
    ["OPTIMIZATION.LR", "0.001"],
    ["DATA_CONFIG.POINT_CLOUD_RANGE", "[0, -8, -3, 16, 8, 1]"],
    ["DATA_CONFIG.INFO_PATH", "train:a.pkl,test:b.pkl"],
    ["CLASS_NAMES", "['Car', 'Van']"],
    ["MODEL.BACKBONE_2D.NUM_FILTERS", "[16, 32]", "OPTIMIZATION.NUM_EPOCHS", "3"],
]
WEIGHTS = "lines/fits.pth"
DETECTOR = ["--cfg_file", EXPERIMENT, "--ckpt", WEIGHTS]
COMMANDS = [
    ["train", "--cfg_file", EXPERIMENT, "--epochs", "1", "--batch_size", "3", "--workers", "0"],
    ["train", "--cfg_file", EXPERIMENT, "--epochs", "1", "--ckpt", "checkpoints/ours.pth"],
    ["test", *DETECTOR, "--eval_tag", "b", "--workers", "0"],
    ["demo", *DETECTOR, "--data_path", "clouds/plain.bin", "--out", "out/demo"],
    ["view", "clouds/plain.bin", "--out", "out/view.html"],
    ["view", "clouds/ascii.pcd", "--out", "out/view.html", "--score", "0.3"],
    ["report", "kitti/results", "--cfg_file", EXPERIMENT, "--out", "out/report.html"],
    ["doctor", "--cfg_file", EXPERIMENT, "--skip_model", "--frames", "2"],
    ["data", "kitti", EXPERIMENT],
]


def _write_lines(folder: Path) -> None:
    for number, settings in enumerate(SETTINGS):
        (folder / f"set{number}.txt").write_text("\n".join(settings))
    for number, command in enumerate(COMMANDS):
        (folder / f"command{number}.txt").write_text("\n".join(command))
