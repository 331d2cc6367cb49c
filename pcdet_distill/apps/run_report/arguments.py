"""The flags of ``pcdet-distill report`` without ``--distill``."""

from __future__ import annotations

import argparse

from ...config.override import add_set_argument

COMPARISON = "comparison.html"
ABOUT_DISTILL = (
    "With --distill the page shows what distillation does in a few frames, and other flags apply: "
    "'pcdet-distill report --distill --help'."
)


def add_report_arguments(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the flags."""
    parser.epilog = ABOUT_DISTILL
    parser.add_argument(
        "folders",
        nargs="+",
        metavar="RUN",
        help="one or two folders of trainings or results, of which the last results count; or "
        "that of a study, output/study/NAME",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="the page; by default report.html beside the results, and "
        f"{COMPARISON} in this folder for two runs",
    )
    parser.add_argument("--names", nargs=2, metavar="NAME", help="what two runs are called")
    parser.add_argument(
        "--cfg_file",
        help="yaml of results that lie outside the folder of their training and have no "
        "report_data.json, and of KITTI's result files",
    )
    add_set_argument(parser)
    return parser
