"""tools/demo.py: detect objects in point files, print the boxes and draw them from above."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from easydict import EasyDict
from torch import nn

from .checkpoint import load_checkpoint, load_model_state
from .config import load_config, resolve_data_path
from .datasets.common_cloud import without_common_cloud
from .datasets.dataset import DatasetTemplate, Item
from .datasets.readers import (
    BAG_SUFFIXES,
    CLOUD_SUFFIXES,
    CloudSource,
    ModelInput,
    PointCloud,
    open_clouds,
)
from .engine.build import build_model
from .engine.resources.device import choose_device, prepare_for_device
from .errors import ConfigError, DataError
from .models import load_data_to_device
from .types import ConfigDict
from .visualize import BevPanel, draw_bev

PANEL_INCH = 8.0


class PointFiles(DatasetTemplate):
    """Point clouds without labels, as a dataset."""

    def __init__(
        self,
        dataset_cfg: ConfigDict,
        class_names: Sequence[str],
        clouds: CloudSource,
        *,
        columns: Sequence[str] | None = None,
        divide_intensity: float = 1.0,
        data_path: Path | None = None,
    ) -> None:
        dataset_cfg = without_common_cloud(dataset_cfg)
        super().__init__(dataset_cfg, class_names, training=False)
        self.clouds = clouds
        self.told_columns = columns
        features = self.point_feature_encoder.src_feature_list
        name = dataset_cfg.get("DATASET", "")
        self.model_input = ModelInput(features, name, divide_intensity, data_path)
        self._told: set[str] = set()

    @property
    def num_frames(self) -> int:
        """The number of clouds."""
        return len(self.clouds)

    def frame_name(self, index: int) -> str:
        """The name of a file without its suffix, or of a recording with the message's number."""
        return self.clouds.name(index)

    def load_frame(self, index: int) -> Item:
        """The points of one cloud. A warning is printed once, whatever its numbers are."""
        place = self.clouds.place(index)
        points, warnings = self.model_input.points(self._read(index), place)
        for warning in warnings:
            kind = re.sub(r"[\d.,]+", "#", warning)
            if kind not in self._told:
                print(f"warning: {place}: {warning}", file=sys.stderr)
            self._told.add(kind)
        return {"points": points, "frame_id": self.clouds.name(index)}

    def _read(self, index: int) -> PointCloud:
        """The cloud. A file that names no columns must have those of the model, or told ones."""
        if self.told_columns is not None or self.clouds.names_columns(index):
            return self.clouds.read(index, self.told_columns)
        features = self.model_input.features
        try:
            return self.clouds.read(index, features)
        except DataError as error:
            raise DataError(
                f"{error}; the model reads {', '.join(features)}, and --columns names the columns "
                "of the file"
            ) from None


class Detections(NamedTuple):
    """The detected boxes of one frame, best first."""

    boxes: np.ndarray  # (N, 7): x, y, z, dx, dy, dz in metres, heading in radians
    names: list[str]
    scores: np.ndarray  # (N,)


def add_demo_arguments(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """OpenPCDet's flags, and ours for the pictures."""
    parser.add_argument("--cfg_file", required=True, help="yaml of the detector")
    parser.add_argument(
        "--data_path",
        required=True,
        help=f"a point file ({', '.join(CLOUD_SUFFIXES)}), a folder of them, or a recording "
        f"({', '.join(BAG_SUFFIXES)}, or a folder of ROS 2)",
    )
    parser.add_argument("--ckpt", required=True, help="checkpoint of the detector")
    parser.add_argument(
        "--ext",
        default=None,
        choices=CLOUD_SUFFIXES,
        help="which files of a folder are point files (default: .bin, or the only format there is)",
    )
    parser.add_argument(
        "--columns",
        default=None,
        help="names of the columns of .bin, .npy and .npz files, for example "
        "x,y,z,intensity,ring (default: those that the model reads)",
    )
    parser.add_argument(
        "--divide_intensity",
        type=float,
        default=1.0,
        help="what intensities are divided by: 255 for a model that learnt 0..1 (default: 1)",
    )
    parser.add_argument("--topic", default=None, help="topic of a recording with several")
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
    dataset = dataset_of(cfg, args)
    device = choose_device(args.device)
    model = load_detector(cfg, dataset, args.ckpt, device)
    pictures = []
    for index in range(len(dataset)):
        item = dataset[index]
        detections = detect(dataset, item, model, device, args.score)
        print_detections(dataset.clouds.place(index), detections)
        picture = Path(args.out) / f"{item['frame_id']}.png"
        pictures.append(draw_detections(dataset, item, detections, picture))
        print(f"  picture: {picture}")
    return pictures


def dataset_of(cfg: EasyDict, args: argparse.Namespace) -> PointFiles:
    """The clouds that the arguments name."""
    if not args.divide_intensity > 0:
        raise ConfigError(f"--divide_intensity {args.divide_intensity}: expected more than 0")
    columns = None
    if args.columns is not None:
        columns = [name.strip() for name in args.columns.split(",")]
    try:
        clouds = open_clouds(Path(args.data_path), args.ext, args.topic)
    except DataError as error:
        raise DataError(f"--data_path {error}") from None
    data_path = None
    if "DATA_PATH" in cfg.DATA_CONFIG:
        data_path = resolve_data_path(cfg.DATA_CONFIG.DATA_PATH, cfg.ROOT_DIR)
    return PointFiles(
        cfg.DATA_CONFIG,
        cfg.CLASS_NAMES,
        clouds,
        columns=columns,
        divide_intensity=args.divide_intensity,
        data_path=data_path,
    )


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


def print_detections(place: str, detections: Detections) -> None:
    """One line for each box."""
    print(f"{place}: {len(detections.boxes)} objects")
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
