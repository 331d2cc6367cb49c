"""``pcdet-distill doctor``: its flags, and the way from a yaml to findings."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from easydict import EasyDict

from ...checkpoint import load_checkpoint
from ...commands import output_folder
from ...config import load_config
from ...config.override import add_set_argument
from ...errors import ConfigError, UserError
from .case import Case
from .checks import CHECKS, run_checks
from .finding import Finding, Severity, by_severity, count
from .fix import changed_config, collect_changes, set_on_command_line, write_fix
from .frames import SPLITS, Split, dataset_of_split, read_split
from .page import write_page
from .text import summary, to_text

DEFAULT_FRAMES = 200
MOST_ROUNDS = 4  # of fixing: a new range changes what a limit of voxels has to be


def add_doctor_arguments(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the flags."""
    parser.add_argument(
        "--cfg_file", required=True, help="yaml of an experiment, or of a dataset alone"
    )
    parser.add_argument(
        "--ckpt", help="also look at what this checkpoint detects, and why its AP may be 0"
    )
    parser.add_argument(
        "--frames",
        type=int,
        default=DEFAULT_FRAMES,
        help="frames of each split to look at, evenly spread; 0 looks at all "
        f"(default: {DEFAULT_FRAMES})",
    )
    parser.add_argument(
        "--fix",
        metavar="OUT.yaml",
        help="write a yaml that extends the examined one by the proposed lines",
    )
    parser.add_argument(
        "--out",
        type=output_folder,
        metavar="DIR",
        help="also write a page with pictures, DIR/doctor.html",
    )
    parser.add_argument(
        "--skip_model",
        action="store_true",
        help="do not build and run the untrained model on a frame, which can take a minute",
    )
    add_set_argument(parser)
    return parser


def run_doctor(args: argparse.Namespace) -> None:
    """Examine a yaml and its data; exit with code 1 if there are errors."""
    findings = examine_from_flags(args)
    print(to_text(findings))
    sys.stdout.flush()
    if count(findings, Severity.ERROR):
        sys.exit(1)


def examine_from_flags(args: argparse.Namespace) -> list[Finding]:
    """The findings; also writes what the flags ask for."""
    if args.frames < 0:
        raise ConfigError(f"--frames {args.frames}: expected a number of frames, or 0 for all")
    cfg = load_config(args.cfg_file, args.set_cfgs)
    case = read_case(cfg, args.frames)
    case.runs_model = not args.skip_model
    if args.ckpt:
        load_checkpoint(args.ckpt)  # a file that cannot be read is no finding
        case.checkpoint = args.ckpt
    findings = by_severity(list(run_checks(case)))
    if args.out:
        print(f"page: {write_page(case, findings, Path(args.out))}", file=sys.stderr)
    if args.fix:
        fix(case, findings, Path(args.fix), set_on_command_line(cfg, args.set_cfgs))
    return findings


def read_case(cfg: EasyDict, num_frames: int = DEFAULT_FRAMES) -> Case:
    """The config with the frames of its splits.

    Raises:
        UserError: no split can be read.
    """
    case = Case(cfg, {})
    names = list(cfg.get("CLASS_NAMES") or case.data.get("CLASS_NAMES") or ())
    errors: dict[str, UserError] = {}
    for split in SPLITS:
        try:
            dataset = dataset_of_split(case.data, names, case.root_dir, split)
            number = num_frames or dataset.num_frames
            case.splits[split] = read_split(split, dataset, number)
        except UserError as error:
            errors[split] = error
    if not case.splits:
        raise errors["train"]
    case.errors.update({split: str(error) for split, error in errors.items()})
    return case


def fix(
    case: Case, findings: list[Finding], file: Path, overrides: Mapping[str, object]
) -> dict[str, object]:
    """Write the yaml with all proposed lines, and say what it holds.

    One change can ask for the next: a larger range holds more voxels. So the checks run again
    on the changed yaml until they propose nothing new.

    Args:
        overrides: key path -> value of what ``--set`` changed.
    """
    changes = collect_changes(findings)
    new = changes
    for _ in range(MOST_ROUNDS):
        if not new:
            break
        changed = Case(changed_config(case.cfg, changes), case.splits, case.errors)
        changed.runs_model = case.runs_model
        again = by_severity(list(run_checks(changed, CHECKS)))
        new = collect_changes(again)
        changes = {**changes, **new}
    if not changes:
        print(f"{file}: not written, because no line of yaml mends what was found", file=sys.stderr)
        return changes
    write_fix(case.cfg, {**overrides, **changes}, file)
    print(f"{file}: {len(changes)} changed keys", file=sys.stderr)
    return changes


__all__ = ["Split", "add_doctor_arguments", "read_case", "run_doctor", "summary"]
