"""``pcdet-distill export --format hub``: a checkpoint as a folder in the layout of Hugging Face."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..config import load_config
from ..errors import CheckpointError, DataError
from ..inference import Detector, load_detector
from ..models import load_data_to_device
from ..types import BatchDict
from .card_facts import facts_of
from .hub import write_hub_folder


def add_hub_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that only this format reads."""
    group = parser.add_argument_group("--format hub", "what the model card tells")
    group.add_argument(
        "--results",
        nargs="+",
        default=(),
        metavar="METRICS.JSON",
        help="evaluations of trainings that differ in their seed (default: the one of the "
        "checkpoint's own training)",
    )
    group.add_argument(
        "--teacher_results",
        nargs="+",
        default=(),
        metavar="METRICS.JSON",
        help="evaluations of the teacher",
    )
    group.add_argument(
        "--license",
        default=None,
        help="of the weights, by Hugging Face's name (default: apache-2.0 for simulated data, "
        "other for all else)",
    )
    group.add_argument("--data", default=None, help="what it was trained on, in a phrase")


def run_hub_export(args: argparse.Namespace, weights: Path) -> list[Path]:
    """Write the folder, read it back, compare the weights; returns the files.

    Args:
        args: the flags.
        weights: the file of the checkpoint.
    """
    cfg = load_config(args.cfg_file, args.set_cfgs)
    detector = load_detector(cfg, args.ckpt, device=args.device)
    facts = facts_of(
        detector,
        weights,
        results=args.results,
        teacher_results=args.teacher_results,
        license=args.license,
        data=args.data,
        batch=a_frame(detector, args.data_path),
    )
    files = write_hub_folder(detector, args.out, facts)
    check_read_back(detector, Path(args.out))
    print(f"written to {args.out}: {', '.join(path.name for path in files)}")
    if facts.results is None:
        print("the card tells no AP: name evaluations by --results")
    print(f"load_detector('{args.out}') reads it; after an upload, load_detector('hf://USER/NAME')")
    return files


def a_frame(detector: Detector, data_path: str | None) -> BatchDict | None:
    """The first cloud of ``--data_path``, on which multiply-adds are counted; None without one."""
    if data_path is None:
        return None
    for item in detector.items(data_path):
        batch = detector.dataset.collate_batch([item])
        load_data_to_device(batch, detector.device)
        return batch
    raise DataError(f"--data_path {data_path}: holds no cloud")


def check_read_back(detector: Detector, folder: Path) -> None:
    """A CheckpointError if the folder does not give the same weights."""
    again = load_detector(folder, device="cpu").model.state_dict()
    for name, tensor in detector.model.state_dict().items():
        if not tensor.cpu().equal(again[name]):
            raise CheckpointError(f"{folder}: {name} is not what was written; is the disk full?")
