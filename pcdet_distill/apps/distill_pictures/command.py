"""``pcdet-distill report --distill``: the way from a yaml and checkpoints to the page."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...config import errors_name_file, load_config
from ...errors import ConfigError
from ...models.device import choose_device
from ...report.page import write_page
from .arguments import FILE
from .contents import Shown
from .fitting import fit_spaces
from .frames import busiest_frames, named_frames, other_frames, test_frames
from .page import distill_page
from .sides import load_sides, without_stored_outputs


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
