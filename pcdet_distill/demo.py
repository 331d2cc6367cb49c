"""tools/demo.py: detect objects in point files, print the boxes and draw them from above.

Without arguments it takes a student and a scan that come with the package (``assets/README.md``).
``--compare`` draws what a teacher, a student and the same student with init find, side by side.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from easydict import EasyDict

from .commands import command_text, output_folder
from .datasets.dataset import DatasetTemplate, Item
from .datasets.readers import BAG_SUFFIXES, CLOUD_SUFFIXES, open_clouds
from .errors import ConfigError, DataError
from .inference import BoxSettings, CloudProcessing, Detections, Detector, load_model
from .inference.load import make_processing, read_detector_config
from .models.device import choose_device
from .texts import plural
from .visualize import BevPanel, draw_bev

PANEL_INCH = 8.0
ASSETS = Path(__file__).parent / "assets"
SHIPPED_CONFIG = "synthetic/hard/pointpillar_4x.yaml"
SHIPPED_CHECKPOINT = ASSETS / "student.pth"
SHIPPED_SCAN = ASSETS / "scan.npz"
SHIPPED_BOXES = ASSETS / "scan_boxes.npz"  # the ground truth of the scan


@dataclass(frozen=True)
class ShippedModel:
    """A network of the comparison."""

    title: str
    cfg_file: str
    checkpoint: Path


COMPARED = (
    ShippedModel("teacher", "synthetic/hard/pointpillar_teacher.yaml", ASSETS / "teacher.pth"),
    ShippedModel("student", SHIPPED_CONFIG, ASSETS / "short_student.pth"),
    ShippedModel(
        "student with init",
        "synthetic/hard/pointpillar_4x_init.yaml",
        ASSETS / "short_student_init.pth",
    ),
)


def add_demo_arguments(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """OpenPCDet's flags, and ours for the pictures."""
    parser.add_argument(
        "--cfg_file",
        default=None,
        help="yaml of the detector (default: the student that comes with the package)",
    )
    parser.add_argument(
        "--data_path",
        default=None,
        help=f"a point file ({', '.join(CLOUD_SUFFIXES)}), a folder of them, or a recording "
        f"({', '.join(BAG_SUFFIXES)}, or a folder of ROS 2) (default: a simulated scan that comes "
        "with the package)",
    )
    parser.add_argument(
        "--ckpt", default=None, help="checkpoint of the detector; needed with --cfg_file"
    )
    parser.add_argument(
        "--compare",
        action="store_true",
        help="draw side by side what three networks that come with the package find: a teacher, a "
        "student trained without it, and the same student with init from the teacher",
    )
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
    parser.add_argument(
        "--out", type=output_folder, default="demo", help="folder of the pictures (default: demo)"
    )
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
    if args.compare:
        return run_comparison(args)
    is_first_look = args.cfg_file is None and args.data_path is None
    fill_with_shipped(args)
    cfg = read_detector_config(args.cfg_file)
    dataset = dataset_of(cfg, args)
    detector = detector_of(cfg, args.ckpt, dataset, args)
    pictures = []
    for index in range(len(dataset)):
        item = dataset[index]
        detections = detector.detect([item])[0]
        print_detections(dataset.frame_place(index), detections)
        picture = Path(args.out) / f"{item['frame_id']}.png"
        pictures.append(draw_detections(dataset, item, detections, picture))
        print(f"  picture: {picture}")
    if is_first_look:
        print(f"next: '{command_text('demo', '--compare')}' shows a teacher and two students")
    return pictures


def run_comparison(args: argparse.Namespace) -> list[Path]:
    """Detect with each of ``COMPARED`` in every file; one picture a file, one panel a network."""
    if args.cfg_file is not None or args.ckpt is not None:
        raise ConfigError("--compare brings its own networks; leave out --cfg_file and --ckpt")
    truth = None
    if args.data_path is None:
        args.data_path = str(SHIPPED_SCAN)
        truth = np.load(SHIPPED_BOXES)["boxes"]
    # The three yaml files read the same points in the same way.
    configs = [read_detector_config(shipped.cfg_file) for shipped in COMPARED]
    dataset = dataset_of(configs[0], args)
    detectors = {}
    for shipped, cfg in zip(COMPARED, configs):
        detectors[shipped.title] = detector_of(cfg, shipped.checkpoint, dataset, args)
    print(f"networks that come with the package; how they were trained: {ASSETS / 'README.md'}")
    pictures = []
    for index in range(len(dataset)):
        item = dataset[index]
        print(f"{dataset.frame_place(index)}:")
        panels = []
        for title, detector in detectors.items():
            detections = detector.detect([item])[0]
            print(f"  {title}: {counted(detections)}")
            names = detections.names.tolist()
            panels.append(
                BevPanel(title, detections.boxes, names, detections.scores, reference=truth)
            )
        picture = Path(args.out) / f"{item['frame_id']}_compared.png"
        pictures.append(draw_panels(dataset, item, panels, picture))
        print(f"  picture: {picture}")
    return pictures


def detector_of(
    cfg: EasyDict, ckpt: str | Path, dataset: CloudProcessing, args: argparse.Namespace
) -> Detector:
    """The network of a checkpoint, with the device and the score of the arguments."""
    device = choose_device(args.device)
    model = load_model(cfg, dataset, ckpt, device)
    return Detector(cfg, model, dataset, device, settings=BoxSettings(score_threshold=args.score))


def counted(detections: Detections) -> str:
    """``4 objects: 3 Car, 1 Cyclist``"""
    number = len(detections.boxes)
    if number == 0:
        return "no objects"
    classes = Counter(detections.names.tolist())
    parts = ", ".join(f"{count} {name}" for name, count in classes.most_common())
    return f"{plural(number, 'object')}: {parts}"


def fill_with_shipped(args: argparse.Namespace) -> None:
    """Put the files that come with the package in the place of arguments that were not given."""
    if (args.cfg_file is None) != (args.ckpt is None):
        missing = "--cfg_file" if args.cfg_file is None else "--ckpt"
        raise ConfigError(f"{missing} is missing; expected --cfg_file and --ckpt, or none of them")
    if args.cfg_file is None:
        args.cfg_file = SHIPPED_CONFIG
        args.ckpt = str(SHIPPED_CHECKPOINT)
        print(f"a student that comes with the package: {args.cfg_file}, {args.ckpt}")
    if args.data_path is None:
        args.data_path = str(SHIPPED_SCAN)


def dataset_of(cfg: EasyDict, args: argparse.Namespace) -> CloudProcessing:
    """The clouds that the arguments name."""
    columns = None
    if args.columns is not None:
        columns = [name.strip() for name in args.columns.split(",")]
    dataset = make_processing(
        cfg,
        columns=columns,
        divide_intensity=args.divide_intensity,
        fill_missing=None,
        tell=print_warning,
        flag="--",
    )
    try:
        dataset.clouds = open_clouds(Path(args.data_path), args.ext, args.topic)
    except DataError as error:
        raise DataError(f"--data_path {error}") from None
    return dataset


def print_warning(warning: str) -> None:
    """A warning about the points, beside the boxes."""
    print(f"warning: {warning}", file=sys.stderr)


def print_detections(place: str, detections: Detections) -> None:
    """One line for each box."""
    print(f"{place}: {len(detections.boxes)} objects")
    for box, name, score in zip(detections.boxes, detections.names, detections.scores):
        x, y, z, length, width, height, heading_rad = box[:7]
        heading_deg = np.degrees(heading_rad) % 360
        print(
            f"  {name:<12} {score:.2f}  at x {x:6.2f} y {y:6.2f} z {z:5.2f} m  "
            f"size {length:.2f} {width:.2f} {height:.2f} m  heading {heading_deg:5.1f} deg"
        )


def draw_detections(
    dataset: DatasetTemplate, item: Item, detections: Detections, path: Path
) -> Path:
    """The frame from above with its boxes; returns the path."""
    panel = BevPanel(
        item["frame_id"], detections.boxes, detections.names.tolist(), detections.scores
    )
    return draw_panels(dataset, item, [panel], path)


def draw_panels(dataset: DatasetTemplate, item: Item, panels: list[BevPanel], path: Path) -> Path:
    """One panel for each detector, side by side; returns the path."""
    return draw_bev(
        item["points"],
        panels,
        path,
        point_cloud_range=dataset.point_cloud_range,
        class_names=dataset.class_names,
        panel_size_inch=PANEL_INCH,
    )
