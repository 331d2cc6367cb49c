"""A Jupyter notebook as a Markdown page: text, code, and the outputs that are stored in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def page_of_notebook(path: Path) -> str:
    """The Markdown of a notebook. Pictures are inside of it."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    parts = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            parts.append(_joined(cell["source"]))
        elif cell["cell_type"] == "code":
            parts.append(_fenced(_joined(cell["source"]), "python"))
            parts += [_output(output) for output in cell["outputs"]]
    return "\n\n".join(part for part in parts if part) + "\n"


def _output(output: Mapping[str, Any]) -> str:
    """One stored output: a picture, or the text; nothing for what is neither."""
    data = output.get("data", {})
    if "image/png" in data:
        content = _joined(data["image/png"]).replace("\n", "")
        return f"![Output of the cell above](data:image/png;base64,{content})"
    text = _joined(output.get("text", data.get("text/plain", "")))
    return _fenced(text, "text") if text.strip() else ""


def _fenced(text: str, language: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```"


def _joined(lines: str | list[str]) -> str:
    """Notebooks store a text as a string or as a list of lines."""
    return lines if isinstance(lines, str) else "".join(lines)
