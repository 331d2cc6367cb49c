"""The documentation builds into a site whose pages are all reachable and need no network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="the extra 'docs' is not installed")

LINK = re.compile(r'href="([^"#]+\.html)')
# What a browser fetches by itself when it shows a page.
FETCHED = re.compile(r'<(?:script|img|iframe)[^>]* src="([^"]+)"|<link[^>]* href="([^"]+)"')


@pytest.fixture(scope="module")
def site(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=repo, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def reachable(site: Path) -> set[Path]:
    """Every page that one comes to from index.html by following links."""
    start = site / "index.html"
    found = {start}
    waiting = deque([start])
    while waiting:
        page = waiting.popleft()
        for target in LINK.findall(page.read_text()):
            linked = (page.parent / target).resolve()
            if ":" not in target and linked.is_file() and linked not in found:
                found.add(linked)
                waiting.append(linked)
    return found


def test_every_page_is_reachable(site: Path) -> None:
    pages = set(site.rglob("*.html")) - {site / "404.html"}
    assert pages - reachable(site.resolve()) == set()


def test_every_markdown_page_is_in_the_site(repo: Path, site: Path) -> None:
    for page in (repo / "docs").rglob("*.md"):
        built = site / page.relative_to(repo / "docs").with_suffix(".html")
        as_folder = built.with_name("index.html")
        assert built.is_file() or as_folder.is_file(), page


def test_no_page_needs_the_network(site: Path) -> None:
    def fetched(page: Path) -> Iterator[str]:
        for source, sheet in FETCHED.findall(page.read_text()):
            yield source or sheet

    for page in site.rglob("*.html"):
        assert [address for address in fetched(page) if address.startswith("http")] == [], page


def test_links_to_yaml_files_lead_to_a_copy(site: Path) -> None:
    linked = set()
    for page in site.rglob("*.html"):
        for target in re.findall(r'href="([^"]+\.yaml)"', page.read_text()):
            linked.add((page.parent / target).resolve())
    assert len(linked) > 20
    assert [file for file in linked if not file.is_file()] == []


def test_the_search_index_and_the_api_reference_hold_the_graph_loss(site: Path) -> None:
    assert "GraphDistillLoss" in (site / "search" / "search_index.js").read_text()
    assert "GraphDistillLoss" in (site / "api" / "distill.html").read_text()
