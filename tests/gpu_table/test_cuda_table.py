"""benchmarks/cuda.py on a CPU, so that it still runs when a GPU is at hand."""

from __future__ import annotations

import argparse
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
from benchmarks.gpu import cases, timing
from benchmarks.gpu.cases import TINY_CASES, Bench, Case, load_case_config
from benchmarks.gpu.page import (
    BEGIN,
    END,
    compiled_table,
    replace_section,
    verdict,
    without_spconv_table,
)
from benchmarks.gpu.precisions import FLOAT32
from pcdet_distill.models import build_network
from pcdet_distill.ops.accelerated import spconv_adapter
from pcdet_distill.ops.sparse_conv import SparseConvolution


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

    assert "spconv was not at hand" in text

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


def sparse_case() -> Case:
    return Case("SECOND", "synthetic/second_student.yaml")


def tiny_run(folder: Path, **changes: Any) -> cuda.Run:
    """A run on simulated frames, on the CPU."""
    args = argparse.Namespace(
        device="cpu", repeats=1, batch_size=1, workers=0, data=None, reference=False
    )
    return cuda.Run(argparse.Namespace(**{**vars(args), **changes}), folder)


def test_sparse_convolutions_are_timed_with_and_without_spconv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "WARM_UP", 0)
    asked: list[Any] = []

    def made_up_library(tensor: Any) -> None:
        """A library that is asked for and computes as we do."""
        asked.append(tensor)

    monkeypatch.setattr(spconv_adapter, "library_for", made_up_library)
    run = tiny_run(tmp_path)
    row = run.without_spconv(sparse_case())
    assert row is not None and row["name"] == "SECOND"
    assert isinstance(row["evaluation"], float) and isinstance(row["training"], float)
    layers = sum(
        isinstance(module, SparseConvolution)
        for module in Bench(
            load_case_config(sparse_case().yaml, run.data), run.device, 1, tmp_path
        ).model.modules()
    )
    # Asked once a layer with spconv, in an evaluation and in a step, and never without it.
    assert len(asked) == 2 * layers
    assert spconv_adapter.library_for is made_up_library
    assert run.without_spconv(TINY_CASES[0]) is None


def test_the_table_without_spconv_names_its_target() -> None:
    rows = [{"name": "SECOND", "evaluation": 1.25, "training": 1.4}]
    assert without_spconv_table(rows).splitlines()[-1] == (
        "| SECOND | 1.25, target 1.30: met | 1.40, target 1.30: not met |"
    )
    failed = [{"name": "SECOND", "evaluation": "fails: RuntimeError", "training": None}]
    assert "| SECOND | fails: RuntimeError | not measured |" in without_spconv_table(failed)


def test_the_dense_part_is_timed_compiled_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the columns of the precisions; a detector without a map has none."""
    compiled: list[nn.Module] = []

    def compile_at_once(model: nn.Module, device: torch.device) -> None:
        compiled.append(model)

    monkeypatch.setattr(cases, "compile_dense_part", compile_at_once)
    run = tiny_run(tmp_path)
    bench = Bench(load_case_config(TINY_CASES[0].yaml, run.data), run.device, 1, tmp_path)
    assert bench.compiled is compiled[0] and bench.compiled is not bench.model
    seen: list[nn.Module] = []
    compiled[0].register_forward_hook(lambda module, *_: seen.append(module))
    bench.evaluation(FLOAT32, bench.compiled)()
    assert seen == compiled

    rows = [
        {"name": "PointPillars", "compiled": {"evaluation": {"float32": 2.5}}},
        {"name": "PointRCNN", "compiled": {"evaluation": {}}},
    ]
    table = compiled_table(rows)
    assert table is not None
    assert "| PointPillars | 2.5 |" in table and "PointRCNN" not in table
    assert compiled_table(rows[1:]) is None


@pytest.mark.parametrize(("compiled", "word"), [(2.9, "met"), (3.1, "not met")])
def test_point_pillars_may_be_compiled_to_meet_its_target(compiled: float, word: str) -> None:
    row = {
        "name": "PointPillars",
        "ours": {"evaluation": {"float32": 4.0}},
        "compiled": {"evaluation": {"float32": compiled}},
    }
    assert cuda.point_pillars_verdict({"detectors": [row]}) == (
        f"PointPillars, one frame in float32: 4.0 ms, compiled {compiled} ms, target 3.0 ms: {word}"
    )


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
