"""docs/pointdistiller.md: its pictures are there and small, its flags and its command exist."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from pcdet_distill.apps.distill_pictures.arguments import add_distill_arguments

REPO = Path(__file__).parents[2]
PAGE = (REPO / "docs/pointdistiller.md").read_text()
FOLDER = REPO / "docs/images/pointdistiller"
MOST_BYTES = 1_500_000


def test_every_picture_is_shown_and_all_are_small():
    shown = re.findall(r"!\[[^\]]+\]\((images/[^)]+)\)", PAGE)
    assert set(shown) == {f"images/pointdistiller/{f.name}" for f in FOLDER.iterdir()}
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < MOST_BYTES


def test_every_picture_has_a_caption():
    for match in re.finditer(r"^!\[[^\]]+\]\([^)]+\)\n\n(.)", PAGE, re.MULTILINE):
        assert match[1] == "*"


def test_the_flags_of_the_page_exist():
    known = add_distill_arguments(argparse.ArgumentParser()).format_help()
    flags = set(re.findall(r"--\w+", PAGE))
    assert flags >= {"--distill", "--before", "--frames", "--score", "--set"}
    assert all(flag in known for flag in flags)
    assert (REPO / "tools/pointdistiller_pictures.py").is_file()
