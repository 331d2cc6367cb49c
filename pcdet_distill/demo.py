"""tools/demo.py: detect objects in point files, print the boxes and draw them from above."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from easydict import EasyDict
from torch import nn

from .checkpoint import load_checkpoint, load_model_state
from .config import load_config
from .datasets.common_cloud import without_common_cloud
from .datasets.dataset import DatasetTemplate, Item
from .datasets.point_files import read_points
from .engine.build import build_model
from .engine.resources.device import choose_device, prepare_for_device
from .errors import ConfigError, DataError
from .models import load_data_to_device
from .types import ConfigDict
from .visualize import BevPanel, draw_bev

PANEL_INCH = 8.0


class PointFiles(DatasetTemplate):
    """Point files without labels, as a dataset."""

    def __init__(
        self, dataset_cfg: ConfigDict, class_names: Sequence[str], path: Path, extension: str
    ) -> None:
        dataset_cfg = without_common_cloud(dataset_cfg)
        super().__init__(dataset_cfg, class_names, training=False, root_path=path)
        self.files = find_point_files(path, extension)

    @property
    def num_frames(self) -> int:
        """The number of files."""
        return len(self.files)

    def frame_name(self, index: int) -> str:
        """The path of a file."""
        return str(self.files[index])

    def load_frame(self, index: int) -> Item:
        """The points of one file."""
        path = self.files[index]
        num_features = len(self.point_feature_encoder.src_feature_list)
        read = read_npy_points if path.suffix == ".npy" else read_points
        return {"points": read(path, num_features), "frame_id": path.stem}


class Detections(NamedTuple):
    """The detected boxes of one frame, best first."""

    boxes: np.ndarray  # (N, 7): x, y, z, dx, dy, dz in metres, heading in radians
    names: list[str]
    scores: np.ndarray  # (N,)


def find_point_files(path: Path, extension: str) -> list[Path]:
    """The file itself, or a folder's files with this extension in the order of their names."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"--data_path {path}: no such file or folder")
    files = sorted(path.glob(f"*{extension}"))
    if not files:
        raise DataError(
            f"--data_path {path}: holds no '*{extension}' file; --ext names another extension"
        )
    return files


def read_npy_points(path: Path, num_features: int) -> np.ndarray:
    """Points ``(N, num_features)`` float32 of a .npy file."""
    try:
        points = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: not a readable .npy array ({error})") from error
    if points.ndim != 2 or points.shape[1] != num_features or points.dtype.kind not in "fiu":
        raise DataError(
            f"{path}: expected numbers of shape (N, {num_features}), "
            f"found {points.dtype} {points.shape}"
        )
    points = points.astype(np.float32)
    if not np.isfinite(points).all():
        raise DataError(f"{path}: points hold NaN or infinity; expected finite numbers")
    return points


def add_demo_arguments(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """OpenPCDet's flags, and ours for the pictures."""
    parser.add_argument("--cfg_file", required=True, help="yaml of the detector")
    parser.add_argument("--data_path", required=True, help="a point file, or a folder of them")
    parser.add_argument("--ckpt", required=True, help="checkpoint of the detector")
    parser.add_argument(
        "--ext",
        default=".bin",
        choices=[".bin", ".npy"],
        help="which files of a folder are point files (default: .bin)",
    )
    parser.add_argument("--out", default="demo", help="folder of the pictures (default: demo)")
    parser.add_argument(
        "--score",
        type=float,
        default=0.3,
        help="lowest score that is printed and drawn (default: 0.3)",
    )
    parser.add_argument(
        "--device", default=None, help="cpu, cuda or cuda:N (default: cuda if there is one)"
    )
    return parser


def run_demo(args: argparse.Namespace) -> list[Path]:
    """Detect in every file, print the boxes; returns the pictures."""
    cfg = load_config(args.cfg_file)
    if "DATA_CONFIG" not in cfg or "MODEL" not in cfg:
        raise ConfigError(
            f"{args.cfg_file}: expected the yaml of a detector, with DATA_CONFIG and MODEL"
        )
    dataset = PointFiles(cfg.DATA_CONFIG, cfg.CLASS_NAMES, Path(args.data_path), args.ext)
    device = choose_device(args.device)
    model = load_detector(cfg, dataset, args.ckpt, device)
    pictures = []
    for index in range(len(dataset)):
        item = dataset[index]
        detections = detect(dataset, item, model, device, args.score)
        print_detections(dataset.files[index], detections)
        picture = Path(args.out) / f"{item['frame_id']}.png"
        pictures.append(draw_detections(dataset, item, detections, picture))
        print(f"  picture: {picture}")
    return pictures


def load_detector(
    cfg: EasyDict, dataset: DatasetTemplate, ckpt: str | Path, device: torch.device
) -> nn.Module:
    """The detector of a config with the weights of a checkpoint, in eval mode.

    The checkpoint must fit completely.
    """
    model = build_model(cfg, dataset)
    load_model_state(model, load_checkpoint(ckpt)["model_state"], strict=True, where=str(ckpt))
    return prepare_for_device(model, device).eval()


def detect(
    dataset: DatasetTemplate,
    item: Item,
    model: nn.Module,
    device: torch.device,
    lowest_score: float,
) -> Detections:
    """The boxes of one frame with ``lowest_score`` or more, best first."""
    batch = dataset.collate_batch([item])
    load_data_to_device(batch, device)
    with torch.no_grad():
        pred_dicts, _ = model(batch)
    boxes = pred_dicts[0]["pred_boxes"].cpu().numpy()
    scores = pred_dicts[0]["pred_scores"].cpu().numpy()
    labels = pred_dicts[0]["pred_labels"].cpu().numpy()
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= lowest_score]
    names = [dataset.class_names[label - 1] for label in labels[order]]
    return Detections(boxes[order], names, scores[order])


def print_detections(file: Path, detections: Detections) -> None:
    """One line for each box."""
    print(f"{file}: {len(detections.boxes)} objects")
    for box, name, score in zip(*detections):
        x, y, z, length, width, height, heading_rad = box
        heading_deg = np.degrees(heading_rad) % 360
        print(
            f"  {name:<12} {score:.2f}  at x {x:6.2f} y {y:6.2f} z {z:5.2f} m  "
            f"size {length:.2f} {width:.2f} {height:.2f} m  heading {heading_deg:5.1f} deg"
        )


def draw_detections(
    dataset: DatasetTemplate, item: Item, detections: Detections, path: Path
) -> Path:
    """The frame from above with its boxes; returns the path."""
    panel = BevPanel(item["frame_id"], detections.boxes, detections.names, detections.scores)
    return draw_bev(
        item["points"],
        [panel],
        path,
        point_cloud_range=dataset.point_cloud_range,
        class_names=dataset.class_names,
        panel_size_inch=PANEL_INCH,
    )
