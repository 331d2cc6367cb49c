"""The flags of ``pcdet-distill report --distill``."""

from __future__ import annotations

import argparse

from ...commands import output_folder
from ...config.override import add_set_argument

FILE = "distillation.html"


def add_distill_arguments(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the flags."""
    parser.add_argument(
        "--distill", action="store_true", required=True, help="show what distillation does"
    )
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
    parser.add_argument(
        "--out",
        type=output_folder,
        default=".",
        metavar="DIR",
        help=f"folder of {FILE} (default: .)",
    )
    parser.add_argument("--device", help="cpu, cuda or cuda:N; by default a GPU if there is one")
    add_set_argument(parser)
    return parser
