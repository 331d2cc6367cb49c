"""benchmarks/cuda.py on a CPU, so that it still runs when a GPU is at hand."""

from __future__ import annotations

import importlib.machinery
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import cuda
from benchmarks.gpu import timing
from benchmarks.gpu.page import BEGIN, END, replace_section, verdict
from pcdet_distill.models import build_network


def made_up_openpcdet() -> dict[str, types.ModuleType]:
    """Modules that build our detectors by OpenPCDet's signature."""

    def build(*, model_cfg: Any, num_class: int, dataset: Any) -> nn.Module:
        return build_network(model_cfg, num_class, dataset)

    package = types.ModuleType("pcdet")
    package.__spec__ = importlib.machinery.ModuleSpec("pcdet", None)
    models = types.ModuleType("pcdet.models")
    models.build_network = build
    return {"pcdet": package, "pcdet.models": models}


def test_one_command_writes_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, module in made_up_openpcdet().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(timing, "WARM_UP", 0)
    monkeypatch.setattr(cuda, "GRAPH_LOSS_REPEATS", 1)
    page = tmp_path / "gpu.md"
    page.write_text(f"# Before\n\n{BEGIN}\nold\n{END}\n\n# After\n")
    figures = tmp_path / "gpu.json"
    options = ["--device", "cpu", "--tiny", "--reference", "--detectors", "PointPillars"]
    cuda.main([*options, "--page", str(page), "--json", str(figures)])

    text = page.read_text()
    assert text.startswith("# Before\n") and text.endswith("# After\n")
    assert "old" not in text
    assert "A CPU" in text
    ratios = text[text.index("ours / OpenPCDet") :]
    assert "target 1.00: " in ratios and "target 0.67: " in ratios

    results = json.loads(figures.read_text())
    teacher, student = results["detectors"]
    assert (teacher["name"], student["name"]) == ("PointPillars", "PointPillars 4x")
    precisions = ["float32", "TF32", "bfloat16"]
    for kind in ("evaluation", "training"):
        for side in ("ours", "theirs"):
            assert list(teacher[side][kind]) == precisions
            assert all(value > 0 for value in teacher[side][kind].values())
    assert "theirs" not in student
    recipe, graph = results["distilled"]
    assert recipe["ratio"] > 1
    assert graph["ratio"] > 0
    assert [row["name"] for row in results["throughput"]] == ["PointPillars", "PointPillars 4x"]
    assert all(row["frames_per_s"] > 0 for row in results["throughput"])


def test_a_call_that_fails_says_so_and_the_others_go_on() -> None:
    def fails() -> None:
        raise RuntimeError("expected scalar type Half")

    calls = {"theirs": fails, "ours": lambda: None}
    found = timing.median_times(calls, torch.device("cpu"), repeats=2)
    assert found["theirs"] == "fails: RuntimeError"
    assert isinstance(found["ours"], float)


@pytest.mark.parametrize(
    ("ours", "word"), [(9.0, "0.90, target 1.00: met"), (11.0, "1.10, target 1.00: not met")]
)
def test_verdicts(ours: float, word: str) -> None:
    row = {
        "ours": {"evaluation": {"float32": ours}},
        "theirs": {"evaluation": {"float32": 10.0}},
    }
    assert verdict(row, "evaluation", 1.0) == word


def test_a_verdict_needs_two_numbers() -> None:
    row = {
        "ours": {"evaluation": {"float32": 1.0}},
        "theirs": {"evaluation": {"float32": "fails: AssertionError"}},
    }
    assert verdict(row, "evaluation", 1.0) == "1.0 / fails: AssertionError"


def test_a_page_without_the_comments_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Nothing to replace\n")
    with pytest.raises(SystemExit, match="expected the comments"):
        replace_section(page, "new")
    assert page.read_text() == "# Nothing to replace\n"


def test_openpcdet_that_is_not_installed_is_named() -> None:
    with pytest.raises(SystemExit, match="--reference: OpenPCDet .* is not installed"):
        cuda.main(["--device", "cpu", "--tiny", "--reference"])


def test_unknown_rows_are_named() -> None:
    with pytest.raises(SystemExit, match="expected one of|is one of 'PointPillars'"):
        cuda.main(["--device", "cpu", "--tiny", "--detectors", "VoteNet"])


def test_the_page_of_the_docs_can_be_written(repo: Path) -> None:
    text = (repo / "docs" / "gpu.md").read_text()
    assert text.index(BEGIN) < text.index(END)
