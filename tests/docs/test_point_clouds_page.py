"""docs/point_clouds.md: its tables are those of the readers, and its Python blocks run."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pcdet_distill.datasets.readers import BAG_SUFFIXES, CLOUD_SUFFIXES
from pcdet_distill.datasets.readers.names import OTHER_NAMES
from pcdet_distill.demo import add_demo_arguments

PAGE = Path("docs/point_clouds.md")
SHARED = Path(__file__).resolve().parents[1] / "datasets" / "readers"


@pytest.fixture
def page(repo: Path) -> str:
    return (repo / PAGE).read_text()


def table_under(page: str, head: str) -> list[list[str]]:
    """The cells of the rows of the table whose head begins so."""
    lines = page[page.index(head) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_format_has_its_row(page: str) -> None:
    rows = table_under(page, "| format |")
    suffixes = [suffix for row in rows for suffix in re.findall(r"`(\.\w+)`", row[1])]
    assert sorted(suffixes) == sorted((*CLOUD_SUFFIXES, *BAG_SUFFIXES))


def test_every_name_is_in_the_table(page: str) -> None:
    rows = table_under(page, "| name |")
    listed = {row[0].strip("`"): re.findall(r"`(\w+)`", row[1]) for row in rows}
    assert listed == {ours: list(names[1:]) for ours, names in OTHER_NAMES.items()}
    assert all(names[0] == ours for ours, names in OTHER_NAMES.items())


def test_the_flags_of_the_page_exist(page: str) -> None:
    parser = add_demo_arguments(argparse.ArgumentParser())
    for flag in set(re.findall(r"--\w+", page)):
        assert flag in parser._option_string_actions, flag


def test_the_python_blocks_run(page: str, tmp_path: Path, monkeypatch, capsys) -> None:
    pytest.importorskip("rosbags")
    monkeypatch.syspath_prepend(str(SHARED))
    monkeypatch.chdir(tmp_path)
    from cloud_writers import packed, pcd_header, scan
    from test_bags import write_bag

    points = scan(20) * [1, 1, 1, 255, 1]
    fields = [(name, "f4", 1) for name in ("x", "y", "z", "intensity", "ring")]
    rows = packed(points.ravel(), "f4")
    Path("scan.pcd").write_bytes(pcd_header(fields, 20, "binary") + rows)
    write_bag(tmp_path, "bag", {"/lidar/points": [scan(7), scan(8), scan(9)], "/rear": [scan(4)]})
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
        exec(code, names)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "(20, 5) ('x', 'y', 'z', 'intensity', 'ring')"
    assert printed[1].startswith("intensity looks like a scale of 0..255")
    assert printed[2] == "0 (0.0, 0.0, 0.0)"
    assert printed[3] == "{'/lidar/points': 3, '/rear': 1}"
    assert printed[4:] == ["100.500 7", "101.500 8", "102.500 9"]
    np.testing.assert_allclose(names["points"], points[:, :4].astype(np.float32))
