"""The flags of ``pcdet-distill report --distill``, and the way from a yaml to the page."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...config import errors_name_file, load_config
from ...config.override import add_set_argument
from ...engine.resources.device import choose_device
from ...errors import ConfigError
from ...report.page import write_page
from .features import fit_spaces
from .frames import busiest_frames, named_frames, other_frames, test_frames
from .page import Shown, distill_page
from .sides import load_sides, without_stored_outputs

FILE = "distillation.html"


def add_distill_arguments(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the flags."""
    parser.add_argument("--distill", action="store_true", help="show what distillation does")
    parser.add_argument("--cfg_file", required=True, help="yaml that the student was trained with")
    parser.add_argument("--teacher_ckpt", help="checkpoint of the teacher")
    parser.add_argument("--ckpt", required=True, help="checkpoint of the distilled student")
    parser.add_argument(
        "--before",
        metavar="PLAIN.pth",
        help="the student to compare with, trained without distillation; by default one with the "
        "random weights that a training begins with",
    )
    parser.add_argument(
        "--frames",
        nargs="+",
        metavar="ID",
        help="names of frames of the test or training split; by default two frames with many "
        "objects",
    )
    parser.add_argument(
        "--score", type=float, default=0.3, help="least score of a shown box (default: 0.3)"
    )
    parser.add_argument("--out", default=".", metavar="DIR", help=f"folder of {FILE} (default: .)")
    parser.add_argument("--device", help="cpu, cuda or cuda:N; by default a GPU if there is one")
    add_set_argument(parser)
    return parser


def run_distill_pictures(args: argparse.Namespace) -> Path:
    """Write the page; returns its path."""
    if not 0 <= args.score <= 1:
        raise ConfigError(f"--score {args.score}: expected a number from 0 to 1")
    shown = read_shown(args)
    file = write_page(distill_page(shown), Path(args.out) / FILE)
    for words in shown.sides.notes:
        print(f"note: {words}")
    print(f"page: {file}")
    return file


def read_shown(args: argparse.Namespace) -> Shown:
    """Models, frames and the spaces in which features are compared."""
    cfg = without_stored_outputs(load_config(args.cfg_file, args.set_cfgs))
    device = choose_device(args.device)
    with errors_name_file(cfg):
        dataset = test_frames(cfg)
        frames = named_frames(cfg, dataset, args.frames) if args.frames else busiest_frames(dataset)
    sides = load_sides(
        cfg,
        dataset,
        teacher_ckpt=args.teacher_ckpt,
        ckpt=args.ckpt,
        before=args.before,
        device=device,
    )
    # Views of the points for the teacher were added to the test split by its distiller.
    for frame in frames:
        frame.dataset.views.update(dataset.views)
    spaces = fit_spaces(sides, other_frames(dataset, frames), device)
    return Shown(
        cfg=cfg,
        sides=sides,
        frames=frames,
        spaces=spaces,
        device=device,
        score=args.score,
        files={"teacher": args.teacher_ckpt, "student": args.ckpt, "before": args.before},
    )
