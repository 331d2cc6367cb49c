"""docs/tutorial.ipynb runs from its first cell to its last, and becomes a page of the site."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path("docs/tutorial.ipynb")
SIZES = re.compile(r"^(FRAMES|EPOCHS) = \d+", flags=re.MULTILINE)
MOST_BYTES = 700_000
SECONDS = 3000  # of one cell, on a machine with much else to do


def run_notebook(repo: Path, folder: Path, sizes: dict[str, int] | None = None) -> Any:
    """The notebook after it has run in ``folder``, with other sizes of the training if given."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    for extra in ("ipykernel", "onnx", "onnxruntime", "matplotlib"):
        pytest.importorskip(extra)
    notebook = nbformat.read(repo / NOTEBOOK, as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert len(SIZES.findall(first.source)) == 2
    for name, value in (sizes or {}).items():
        first.source = re.sub(rf"^{name} = \d+", f"{name} = {value}", first.source, flags=re.M)
    where = {"metadata": {"path": str(folder)}}
    client = nbclient.NotebookClient(
        notebook, timeout=SECONDS, kernel_name="python3", resources=where
    )
    return client.execute()


def printed(notebook: Any) -> str:
    """All text that the cells print."""
    texts = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            texts.append(output.get("text", ""))
    return "\n".join(texts)


def check_run(notebook: Any, folder: Path) -> None:
    """The files and outputs that the notebook promises."""
    rows = re.findall(r"^(teacher|plain|distilled) +([\d,]+) +([\d.]+)$", printed(notebook), re.M)
    parameters = {name: int(count.replace(",", "")) for name, count, _ in rows}
    assert list(parameters) == ["teacher", "plain", "distilled"]
    assert parameters["plain"] == parameters["distilled"] < parameters["teacher"] / 3
    assert {"model.onnx", "config.json", "detect.py"} <= {
        file.name for file in (folder / "robot").iterdir()
    }
    apart = re.search(
        r"(\d+) boxes on the robot, (\d+) here, at most ([\d.]+) apart", printed(notebook)
    )
    assert apart
    assert apart[1] == apart[2]
    assert float(apart[3]) < 0.001


def test_the_cells_run_with_few_frames(repo: Path, tmp_path: Path) -> None:
    check_run(run_notebook(repo, tmp_path, {"FRAMES": 8, "EPOCHS": 1}), tmp_path)


@pytest.mark.slow
def test_the_teacher_of_the_whole_notebook_finds_cars(repo: Path, tmp_path: Path) -> None:
    notebook = run_notebook(repo, tmp_path)
    check_run(notebook, tmp_path)
    assert re.search(r"Detections\(.*\d+ Car", str(notebook))


def test_the_stored_outputs_are_small_and_without_errors(repo: Path) -> None:
    text = (repo / NOTEBOOK).read_text()
    assert len(text) < MOST_BYTES
    cells = json.loads(text)["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert outputs
    assert "error" not in {output["output_type"] for output in outputs}
    assert "/tmp" not in text


def test_a_notebook_becomes_a_page(tmp_path: Path, repo: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(repo / "tools"))
    from notebook_page import page_of_notebook

    picture = base64.b64encode(b"png").decode()
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "text"]},
        {
            "cell_type": "code",
            "source": "print(1)\n",
            "outputs": [
                {"output_type": "stream", "name": "stdout", "text": ["1\n"]},
                {"output_type": "display_data", "data": {"image/png": picture + "\n"}},
                {"output_type": "execute_result", "data": {"text/plain": "Found(2)"}},
                {"output_type": "stream", "name": "stderr", "text": ""},
            ],
        },
    ]
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": cells}))
    assert page_of_notebook(tmp_path / "a.ipynb") == (
        "# Title\ntext\n\n```python\nprint(1)\n```\n\n```text\n1\n```\n\n"
        f"![Output of the cell above](data:image/png;base64,{picture})\n\n"
        "```text\nFound(2)\n```\n"
    )
    page = page_of_notebook(repo / NOTEBOOK)
    assert page.startswith("# Tutorial")
    assert page.count("```") % 2 == 0
