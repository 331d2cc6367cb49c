"""Maps for newcomers are true: docstrings of large packages, and the map in CONTRIBUTING.md."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
PACKAGE = REPO / "pcdet_distill"
LARGE = 7  # files and folders, from which on a package says what is where
# One file for each name of a table: the table is the map.
TABLES = ("apps/doctor/checks", "ops/accelerated/triton", "export/slots")


def large_packages() -> list[Path]:
    """The packages that must have a map."""
    found = []
    for folder in sorted({file.parent for file in PACKAGE.rglob("__init__.py")}):
        is_table = folder.relative_to(PACKAGE).as_posix() in TABLES
        if len(parts_of(folder)) >= LARGE and not is_table:
            found.append(folder)
    return found


def parts_of(folder: Path) -> list[str]:
    """The modules and sub-packages of a package."""
    modules = [file.stem for file in folder.glob("*.py") if not file.stem.startswith("__")]
    packages = [file.parent.name for file in folder.glob("*/__init__.py")]
    return sorted([*modules, *packages])


def docstring_of(folder: Path) -> str:
    """The docstring of a package."""
    return ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""


@pytest.mark.parametrize("folder", large_packages(), ids=lambda folder: folder.name)
def test_a_large_package_says_what_is_where(folder: Path) -> None:
    words = set(re.findall(r"\w+", docstring_of(folder)))
    missing = [name for name in parts_of(folder) if name not in words]
    assert not missing, f"{folder}/__init__.py: its docstring does not mention {missing}"


def paragraphs_of(folder: Path) -> list[str]:
    """The paragraphs of a package's docstring, without tables of something else."""
    return [part for part in docstring_of(folder).split("\n\n") if "====" not in part]


def test_a_map_mentions_no_file_that_is_gone() -> None:
    """Lines of the form ``name   what it is``; the name is a file or folder of the package."""
    for folder in large_packages():
        for paragraph in paragraphs_of(folder):
            for name in re.findall(r"^ *([a-z]\w*)  +\S", paragraph, flags=re.MULTILINE):
                assert name in parts_of(folder), f"{folder}/__init__.py: there is no {name}"


def test_maps_on_the_site_are_indented() -> None:
    """Markdown would run their lines together otherwise."""
    pages = "".join(page.read_text() for page in (REPO / "docs/api").glob("*.md"))
    on_site = set(re.findall(r"^::: (\S+)", pages, flags=re.MULTILINE))
    for folder in large_packages():
        if ".".join(folder.relative_to(REPO).parts) in on_site:
            text = "\n\n".join(paragraphs_of(folder))
            lines = re.findall(r"^[a-z]\w*  +\S.*", text, flags=re.MULTILINE)
            assert not lines, f"{folder}/__init__.py: indent {lines}"


def test_contributing_names_every_folder_of_the_package() -> None:
    text = (REPO / "CONTRIBUTING.md").read_text()
    code_map = text.split("pcdet_distill/\n", 1)[1].split("```", 1)[0]
    in_map = set(re.findall(r"^  (\w+)/ ", code_map, flags=re.MULTILINE))
    folders = {file.parent.name for file in PACKAGE.glob("*/__init__.py")}
    without_code = {folder.name for folder in PACKAGE.iterdir() if folder.name == "assets"}
    assert in_map == folders | without_code
