"""docs/report.md: its example writes a page, and its words are those of the program."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from page_reader import read_page

from pcdet_distill.report.record import FILE
from pcdet_distill.report.run_page import FILE as PAGE


@pytest.fixture(scope="module")
def text(repo: Path) -> str:
    return (repo / "docs" / "report.md").read_text(encoding="utf-8")


def test_the_example_runs(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    exec(compile(code, "docs/report.md", "exec"), {})
    reader = read_page((tmp_path / "figures.html").read_text(encoding="utf-8"))
    assert reader.count("svg") == 2 and "Two plots." in reader.words


def test_files_and_pictures_exist(text: str, repo: Path):
    assert PAGE in text and FILE in text
    for picture in re.findall(r"!\[[^]]+\]\(([^)]+)\)", text):
        assert (repo / "docs" / picture).stat().st_size < 300_000
    for page in re.findall(r"\]\(([a-z_]+\.md)\)", text):
        assert (repo / "docs" / page).is_file()
