"""Every picture of the pages exists, says what it shows in words, and has a caption below it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PICTURE = re.compile(
    r"^!\[(?P<words>[^\]]*)\]\((?P<file>[^)]+)\)\n(?P<below>\n[^\n]*)?", re.MULTILINE
)
FEWEST_WORDS = 3


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pictures_have_words_and_captions(page: Path) -> None:
    for found in PICTURE.finditer(page.read_text(encoding="utf-8")):
        assert (page.parent / found["file"]).is_file(), found["file"]
        assert len(found["words"].split()) >= FEWEST_WORDS, found["file"]
        below = (found["below"] or "").strip()
        assert below.startswith("*") and not below.startswith(("* ", "**")), found["file"]


def test_there_are_pictures() -> None:
    with_pictures = [page for page in PAGES if PICTURE.search(page.read_text(encoding="utf-8"))]
    assert len(with_pictures) > 10
