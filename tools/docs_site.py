"""Hooks of mkdocs: the site also has pages and files that live outside ``docs/``.

README.md and its like become pages, and so do notebooks. Other files that a page links to, such as
yaml files, are copied into the site, so that every link works without a network.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from notebook_page import page_of_notebook

ROOT = Path(__file__).resolve().parents[1]
DOCS = "docs/"
# Pages of the site that stand elsewhere in the checkout.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
    "data/README.md": "data.md",
    "examples/ros2/README.md": "ros2.md",
}
SOURCES = {page: source for source, page in PAGES.items()}
# [text](target), [text](target#heading) and the same for pictures; a target may not hold spaces.
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of ``PAGES`` and every file outside ``docs/`` that a page links to."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    for notebook in sorted((ROOT / DOCS).glob("*.ipynb")):
        content = page_of_notebook(notebook)
        files.append(File.generated(config, f"{notebook.stem}.md", content=content))
    linked = set()
    for file in files.documentation_pages():
        linked |= linked_files(source_of(file.src_uri), file.content_string)
    for path in sorted(linked):
        files.append(File.generated(config, site_path(path), abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point every link at the place its target has in the site."""
    source = source_of(page.file.src_uri)
    folder = str(PurePosixPath(page.file.src_uri).parent)

    def moved(link: re.Match[str]) -> str:
        before, target, heading, after = link.groups()
        path = repository_path(source, target)
        if path is None or not (ROOT / path).is_file():
            return link.group()
        place = os.path.relpath(site_path(path), folder)
        return f"{before}{place}{heading or ''}{after}"

    return LINK.sub(moved, markdown)


def source_of(page: str) -> str:
    """Where a page of the site stands in the checkout."""
    return SOURCES.get(page, DOCS + page)


def site_path(path: str) -> str:
    """Where a file of the checkout stands in the site."""
    if path in PAGES:
        return PAGES[path]
    if path.startswith(DOCS):
        return path.removeprefix(DOCS)
    return f"files/{path}"


def repository_path(source: str, target: str) -> str | None:
    """The file that a link of the page ``source`` means; None for an address on the web."""
    if ":" in target:
        return None
    return os.path.normpath(os.path.join(os.path.dirname(source), target))


def linked_files(source: str, markdown: str) -> set[str]:
    """The files outside ``docs/`` that a page links to, without those that are pages."""
    found = set()
    for link in LINK.finditer(markdown):
        path = repository_path(source, link.group(2))
        if path is None or path in PAGES or path.startswith(DOCS):
            continue
        if (ROOT / path).is_file():
            found.add(path)
    return found
