"""CONTRIBUTING.md names the folders that exist, and no others."""

from __future__ import annotations

import re
from pathlib import Path

HIDDEN = ("__pycache__",)


def test_every_folder_of_the_package_is_named(repo: Path) -> None:
    tree = (repo / "CONTRIBUTING.md").read_text().split("```")[3]
    inside = tree.split("pcdet_distill/\n")[1].split("\ntests/")[0]
    named = re.findall(r"^  (\w+)/ ", inside, flags=re.MULTILINE)
    folders = [path.name for path in (repo / "pcdet_distill").iterdir() if path.is_dir()]
    assert sorted(named) == sorted(name for name in folders if name not in HIDDEN)
