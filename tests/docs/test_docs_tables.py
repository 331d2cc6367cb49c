"""The tables of options in docs/ are what tools/docs_tables.py writes, and they name every key."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from pcdet_distill.config.nodes import Block, ListOf, Node
from pcdet_distill.config.schema import EXPERIMENT


@pytest.fixture(scope="module")
def docs_tables() -> ModuleType:
    path = Path(__file__).parents[2] / "tools" / "docs_tables.py"
    spec = importlib.util.spec_from_file_location("docs_tables", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_are_up_to_date(repo: Path) -> None:
    command = [sys.executable, repo / "tools" / "docs_tables.py", "--check"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, f"{run.stdout}{run.stderr}run: python tools/docs_tables.py"


def test_every_table_stands_on_a_page(repo: Path, docs_tables: ModuleType) -> None:
    pages = "".join(page.read_text() for page in (repo / "docs").glob("*.md"))
    assert set(re.findall(r"<!-- table:(\S+) begin -->", pages)) == set(docs_tables.TABLES)


def test_text_outside_a_table_stays(docs_tables: ModuleType) -> None:
    begin, end = "<!-- table:weight begin -->\n", "<!-- table:weight end -->"
    page = f"before\n{begin}old{end}\nafter | the table\n"
    written = docs_tables.with_tables(page)
    assert written == f"before\n{begin}{docs_tables.TABLES['weight']()}{end}\nafter | the table\n"
    assert docs_tables.with_tables(written) == written


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        ({}, ""),
        (True, "`true`"),
        (1500.0, "`1500`"),
        (0.0004, "`0.0004`"),
        ("mse", "`mse`"),
        ((1, 2), "`[1, 2]`"),
    ],
)
def test_defaults_stand_as_in_yaml(docs_tables: ModuleType, value: object, text: str) -> None:
    assert docs_tables.in_yaml(value) == text


def blocks(node: Node | None) -> Iterator[Block]:
    """The block itself and every block inside it."""
    if isinstance(node, ListOf):
        yield from blocks(node.item)
        yield from blocks(node.or_block)
    elif isinstance(node, Block):
        yield node
        for below in node.keys.values():
            yield from blocks(below)


def test_the_config_page_names_every_key(repo: Path) -> None:
    """Also those of ``DISTILL`` and those that OpenPCDet does not have."""
    page = (repo / "docs" / "config.md").read_text()
    named: set[str] = set()
    for path in re.findall(r"`([^`\n]+)`", page):
        named.update(path.split("."))
    not_in_yaml = {"ROOT_DIR", "TAG", "EXP_GROUP_PATH", "CONFIG_FILE", "LOCAL_RANK"}
    for block in blocks(EXPERIMENT):
        assert set(block.keys) - not_in_yaml <= named
