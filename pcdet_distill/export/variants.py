"""The parts of the command for int8 and for other programs' layouts."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from easydict import EasyDict

from ..datasets import DatasetTemplate, build_dataset
from ..engine.cli.arguments import at_least
from ..errors import ConfigError, DataError
from ..inference import Detector
from ..models import Detector3DTemplate, load_data_to_device
from ..types import BatchDict
from .boxes import Arrays
from .exporter import Export
from .folder import write_files
from .layouts import LAYOUTS, check_layout, write_layout
from .quantize import HIGHEST_OPSET, METHODS, Quantized, QuantizeOptions, quantize_export
from .reference import network_inputs

OWN_LAYOUT = "boxes"
# Flags that --quantize reads, and their values when they are not given.
CALIBRATION_FLAGS: dict[str, object] = {
    "calibration": QuantizeOptions.method,
    "calibration_frames": 64,
    "calibration_path": None,
    "calibration_seed": 0,
    "percentile": QuantizeOptions.percentile,
    "int8_error": QuantizeOptions.highest_error,
}


def add_variant_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of layouts and of the quantisation."""
    parser.add_argument(
        "--layout",
        default=OWN_LAYOUT,
        choices=(OWN_LAYOUT, *LAYOUTS),
        help="one network from pillars to boxes, or the files that Autoware's lidar_centerpoint or "
        f"NVIDIA's CUDA-PointPillars read (default: {OWN_LAYOUT})",
    )
    parser.add_argument(
        "--quantize",
        default=None,
        choices=("int8",),
        help="convolutions in int8, with ranges from calibration frames",
    )
    parser.add_argument(
        "--calibration",
        default=QuantizeOptions.method,
        choices=tuple(METHODS),
        help=f"how ranges follow from the frames (default: {QuantizeOptions.method})",
    )
    parser.add_argument(
        "--calibration_frames",
        type=at_least(4),
        default=CALIBRATION_FLAGS["calibration_frames"],
        help="frames of the training split that calibrate (default: 64)",
    )
    parser.add_argument(
        "--calibration_path",
        default=None,
        help="take the calibration frames from point files instead",
    )
    parser.add_argument(
        "--calibration_seed", type=int, default=0, help="chooses the frames (default: 0)"
    )
    parser.add_argument(
        "--percentile",
        type=float,
        default=QuantizeOptions.percentile,
        help="of the values inside a range, for --calibration percentile "
        f"(default: {QuantizeOptions.percentile})",
    )
    parser.add_argument(
        "--int8_error",
        type=float,
        default=QuantizeOptions.highest_error,
        help="mean difference of scores that is accepted; sensitive layers stay in float until it "
        f"is reached (default: {QuantizeOptions.highest_error})",
    )


def check_variant_arguments(args: argparse.Namespace) -> None:
    """A ConfigError for flags that do not go together."""
    for flag, default in CALIBRATION_FLAGS.items():
        if not args.quantize and getattr(args, flag) != default:
            raise ConfigError(f"--{flag} belongs to --quantize int8, which is not given")
    if args.quantize and args.layout != OWN_LAYOUT:
        raise ConfigError(
            f"--quantize {args.quantize}: expected --layout {OWN_LAYOUT}; TensorRT, which runs the "
            f"files of {args.layout}, calibrates itself"
        )
    if args.quantize and (args.opset or 0) > HIGHEST_OPSET:
        raise ConfigError(
            f"--opset {args.opset}: expected {HIGHEST_OPSET} at most with --quantize, for which "
            "onnxruntime has int8 kernels"
        )


def opset_of(args: argparse.Namespace) -> int | None:
    """The version of operators to write: --opset, or the newest that has int8 kernels."""
    return args.opset or (HIGHEST_OPSET if args.quantize else None)


def write_layout_files(
    args: argparse.Namespace, detector: Detector, export: Export, batches: Sequence[BatchDict]
) -> list[Path]:
    """Write the files of --layout after their check; returns their paths."""
    if export.config.stages_outside:
        raise ConfigError(
            f"--layout {args.layout}: {export.config.detector} has a sparse backbone, expected a "
            "detector of pillars"
        )
    files = write_layout(args.layout, detector, export.config, args.opset)
    print(f"check: {check_layout(detector, files, export.config, batches)}")
    paths = write_files(args.out, files.contents)
    print(f"written to {args.out}: {', '.join(path.name for path in paths)}")
    for note in files.notes:
        print(f"note: {note}")
    return paths


def quantize_by_arguments(
    args: argparse.Namespace, cfg: EasyDict, detector: Detector, export: Export
) -> Quantized:
    """The int8 network of --quantize; prints what every layer loses."""
    options = QuantizeOptions(args.calibration, args.percentile, args.int8_error)
    frames = list(_calibration_inputs(args, cfg, detector))
    quantized = quantize_export(export, frames, options)
    print(f"int8, ranges by {options.method} of {quantized.num_frames} frames:")
    print(quantized.table)
    return quantized


def _calibration_inputs(
    args: argparse.Namespace, cfg: EasyDict, detector: Detector
) -> Iterator[Arrays]:
    """The network's inputs for the calibration frames."""
    model = detector.model
    assert isinstance(model, Detector3DTemplate)
    if args.calibration_path is not None:
        for _, item in zip(range(args.calibration_frames), detector.items(args.calibration_path)):
            batch = detector.dataset.collate_batch([item])
            load_data_to_device(batch, detector.device)
            yield network_inputs(model, batch)
        return
    dataset = training_frames(cfg)
    random = np.random.RandomState(args.calibration_seed)
    count = min(args.calibration_frames, len(dataset))
    for index in random.choice(len(dataset), count, replace=False):
        batch = dataset.collate_batch([dataset[int(index)]])
        load_data_to_device(batch, detector.device)
        yield network_inputs(model, batch)


def training_frames(cfg: EasyDict) -> DatasetTemplate:
    """The training split, processed as in the evaluation: nothing is augmented."""
    data_config = EasyDict(cfg.DATA_CONFIG)
    for key in ("DATA_SPLIT", "INFO_PATH"):
        if key in data_config:
            data_config[key] = {**data_config[key], "test": data_config[key]["train"]}
    try:
        return build_dataset(data_config, cfg.CLASS_NAMES, root_dir=cfg.ROOT_DIR, training=False)
    except DataError as error:
        raise DataError(
            f"{error}; to calibrate without a training split, name point files by "
            "--calibration_path"
        ) from None
