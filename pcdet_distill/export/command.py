"""``pcdet-distill export``: a checkpoint as a network that runs without this package.

Or, with ``--format hub``, as a folder in the layout of Hugging Face (``hub_command.py``).

The network is written, run beside the checkpoint on some frames, and only then put into its folder.
Afterwards both are evaluated on the same frames.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import numpy as np
from easydict import EasyDict
from torch.utils.data import DataLoader

from ..commands import output_folder
from ..config import load_config, lookup
from ..config.override import add_set_argument
from ..datasets import DatasetTemplate, build_dataloader
from ..datasets.item import Item
from ..datasets.readers import BAG_SUFFIXES, CLOUD_SUFFIXES
from ..engine.cli.arguments import at_least
from ..engine.logging import check_writable
from ..errors import ConfigError, DataError
from ..extras import import_extra
from ..inference import Detector, load_detector
from ..inference.hub import WEIGHTS_FILE
from ..measure import count_parameters
from ..models import load_data_to_device
from ..types import BatchDict
from .check import check_export
from .comparison import compare_on_split
from .exporter import Export, export_detector, model_bytes
from .folder import write_runtime_folder
from .hub_command import add_hub_arguments, run_hub_export
from .latency import measure_latency
from .runners import OnnxRuntimeRunner
from .variants import (
    OWN_LAYOUT,
    add_variant_arguments,
    check_variant_arguments,
    opset_of,
    quantize_by_arguments,
    write_layout_files,
)

FORMATS = ("onnx", "hub")
# Flags that one format reads, and their values when they are not given.
FLAGS_OF_FORMAT: dict[str, dict[str, object]] = {
    "onnx": {
        "split": None,
        "opset": None,
        "no_eval": False,
        "divide_intensity": 1.0,
        "layout": OWN_LAYOUT,
        "quantize": None,
    },
    "hub": {"results": (), "teacher_results": (), "license": None, "data": None},
}


def add_export_arguments(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The flags."""
    parser.add_argument("--cfg_file", required=True, help="yaml of the detector")
    parser.add_argument("--ckpt", required=True, help="checkpoint of the detector")
    parser.add_argument(
        "--format",
        default="onnx",
        choices=FORMATS,
        help="onnx: a network and a program that runs it; hub: weights, yaml and model card in "
        "the layout of Hugging Face (default: onnx)",
    )
    parser.add_argument("--out", type=output_folder, required=True, help="folder that is written")
    _add_frames(parser)
    parser.add_argument(
        "--device",
        default="cpu",
        help="of the checkpoint: cpu, cuda or cuda:N (default: cpu, where the exported network "
        "runs too)",
    )
    parser.add_argument(
        "--opset",
        type=int,
        default=None,
        help="version of ONNX's operators, for older runtimes (default: the newest that the "
        "installed onnxruntime runs)",
    )
    parser.add_argument(
        "--no_eval",
        action="store_true",
        help="leave out the evaluation of network and checkpoint on the split",
    )
    add_hub_arguments(parser)
    add_variant_arguments(parser)
    # Last, because --set takes the rest of the line.
    add_set_argument(parser, example="DATA_CONFIG.DATA_PATH data/kitti")
    return parser


def _add_frames(parser: argparse.ArgumentParser) -> None:
    """The frames of the check and of the evaluation."""
    parser.add_argument(
        "--frames",
        type=at_least(1),
        default=20,
        help="frames on which the network must agree with the checkpoint (default: 20)",
    )
    parser.add_argument(
        "--split",
        default=None,
        help="split of DATA_SPLIT that these frames are from, and that is evaluated (default: "
        "its test, which is val)",
    )
    parser.add_argument(
        "--data_path",
        default=None,
        help="take the frames from point files instead, without evaluation: a file "
        f"({', '.join(CLOUD_SUFFIXES)}), a folder of them, or a recording "
        f"({', '.join(BAG_SUFFIXES)})",
    )
    parser.add_argument(
        "--divide_intensity",
        type=float,
        default=1.0,
        help="what intensities of the sensor are divided by: 255 for a model that learnt 0..1 "
        "(default: 1)",
    )


def run_export(args: argparse.Namespace) -> list[Path]:
    """Export, check, write, evaluate; returns the files."""
    refuse_flags_of_another_format(args)
    check_variant_arguments(args)
    check_writable(Path(args.out))
    if args.format == "hub":
        return run_hub_export(args, weights_file(args.ckpt))
    import_extra("onnxruntime", needed_by="export")
    cfg = load_config(args.cfg_file, args.set_cfgs)
    detector = load_detector(
        cfg, args.ckpt, device=args.device, divide_intensity=args.divide_intensity
    )
    export = export_detector(detector, weights_file(args.ckpt), opset=opset_of(args))
    tell_network(export, detector)
    loader = None if args.data_path else split_of(cfg, args.split)
    batches = list(frames_of(detector, loader, args.data_path, args.frames))
    print(f"check: {check_export(detector, export, batches)}")
    if args.layout != OWN_LAYOUT:
        return write_layout_files(args, detector, export, batches)
    runners = {"onnx": OnnxRuntimeRunner(export.model)}
    if args.quantize:
        quantized = quantize_by_arguments(args, cfg, detector, export)
        print(f"float: {latency_line(measure_latency(detector, export, batches[-1]))}")
        export = quantized.export
        runners[args.quantize] = OnnxRuntimeRunner(export.model)
    files = write_runtime_folder(args.out, model_bytes(export.model), export.config)
    if args.quantize:
        files.append(quantized.write_report(Path(args.out)))
    print(f"written to {args.out}: {', '.join(path.name for path in files)}")
    print(latency_line(measure_latency(detector, export, batches[-1])))
    if loader is not None and not args.no_eval:
        print(compare_on_split(detector, loader, runners, export.config))
    return files


def refuse_flags_of_another_format(args: argparse.Namespace) -> None:
    """A ConfigError for a flag that would have no effect."""
    for format, flags in FLAGS_OF_FORMAT.items():
        for flag, default in flags.items():
            if format != args.format and getattr(args, flag) != default:
                raise ConfigError(f"--{flag} belongs to --format {format}, not to {args.format}")


def weights_file(ckpt: str) -> Path:
    """The file of a checkpoint, or the weights in a folder of the hub's layout."""
    path = Path(ckpt).expanduser()
    return path / WEIGHTS_FILE if path.is_dir() else path


def tell_network(export: Export, detector: Detector) -> None:
    """Print what is in the network, and what is not."""
    config = export.config
    parameters = count_parameters(detector.model) / 1e6
    megabytes = len(model_bytes(export.model)) / 1e6
    opset = export.model.opset_import[0].version
    print(
        f"{config.detector} ({parameters:.2f} M parameters): {', '.join(config.stages)} as "
        f"{config.model}, {megabytes:.1f} MB, opset {opset}"
    )
    if config.stages_outside:
        print(
            f"not in the file: {', '.join(config.stages_outside)}. ONNX has no sparse convolution, "
            "so these stages stay in torch (docs/export.md shows how both run together)"
        )
    for step in detector.dataset.data_processor.selections:
        print(f"not in the file: {step.where}, which chose the points of the training")


def split_of(cfg: EasyDict, split: str | None) -> DataLoader:
    """The frames of a split one by one, processed as in the evaluation."""
    data_config = EasyDict(cfg.DATA_CONFIG)
    if split is not None:
        modes = {name: mode for mode, name in data_config.DATA_SPLIT.items()}
        mode = lookup(modes, split, "--split")
        for key in ("DATA_SPLIT", "INFO_PATH"):
            files = data_config.get(key)
            if files:
                data_config[key] = {**files, "test": files[mode]}
    try:
        _, loader, _ = build_dataloader(
            data_config,
            cfg.CLASS_NAMES,
            batch_size=1,
            root_dir=cfg.ROOT_DIR,
            workers=0,
            seed=0,
            training=False,
        )
    except DataError as error:
        raise DataError(
            f"{error}; to check the network without a data set, name point files by --data_path"
        ) from None
    return loader


def frames_of(
    detector: Detector, loader: DataLoader | None, data_path: str | None, count: int
) -> Iterator[BatchDict]:
    """Batches of one frame: ``count`` spread evenly over a split, or the first point files."""
    if loader is None:
        assert data_path is not None
        for _, item in zip(range(count), detector.items(data_path)):
            yield batch_of(detector, item)
        return
    dataset = cast(DatasetTemplate, loader.dataset)
    places = np.linspace(0, len(dataset) - 1, min(count, len(dataset)))
    for index in places.round().astype(int):
        yield batch_of(detector, dataset[int(index)])


def batch_of(detector: Detector, item: Item) -> BatchDict:
    """One item as a batch on the device of the detector."""
    batch = detector.dataset.collate_batch([item])
    load_data_to_device(batch, detector.device)
    return batch


def latency_line(milliseconds: Mapping[str, float]) -> str:
    """The times of one frame, beside that of torch."""
    phrases = []
    for name, value in milliseconds.items():
        phrases.append(f"{name} {value:.0f} ms ({milliseconds['torch'] / value:.1f}x)")
    return f"network alone, one frame, one core: {', '.join(phrases)}"
