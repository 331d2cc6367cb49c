"""docs/methods.md: every method is in its table with a yaml, and the example method works."""

from __future__ import annotations

import dataclasses
import importlib
import re
import sys
from pathlib import Path

import pytest
import test_recipes
import torch
from made_nodes import BEV
from test_build_distiller import voxel_batch
from test_distiller import distiller
from toy_detectors import toy_batch

from pcdet_distill.config import load_config
from pcdet_distill.distill.batch_transforms import BATCH_TRANSFORMS
from pcdet_distill.distill.losses import DISTILL_LOSSES
from pcdet_distill.distill.term_classes import find_term_class
from pcdet_distill.errors import ConfigError

TERM_CLASSES = {**DISTILL_LOSSES, **BATCH_TRANSFORMS}
REPO = Path(__file__).parents[2]
PAGE = (REPO / "docs/methods.md").read_text()
teacher_of = test_recipes.teacher_of  # a fixture
METHODS = PAGE[: PAGE.index("## What a method compares")]
ROWS = {match[1]: match[0] for match in re.finditer(r"^\| `(\w+)` \|.*$", METHODS, re.MULTILINE)}


def table_of_keys() -> dict[str, dict[str, str]]:
    """NAME -> key -> default, as in the table of the page; only the first row of a NAME has it."""
    begin = PAGE.index("<!-- table:methods begin -->")
    end = PAGE.index("<!-- table:methods end -->")
    keys: dict[str, dict[str, str]] = {}
    for row in PAGE[begin:end].splitlines()[3:]:
        name, key, _, default, _ = [cell.strip().strip("`") for cell in row.split("|")[1:-1]]
        if name:
            defaults = keys[name] = {}
        if key != "no keys":
            defaults[key] = default
    return keys


def test_every_key_with_its_default():
    keys = table_of_keys()
    assert set(keys) == set(TERM_CLASSES) - {"GraphDistillLoss"}
    for name, found in keys.items():
        expected = dataclasses.asdict(TERM_CLASSES[name].options_class())
        assert found == {
            key.upper(): f"{value:g}" if isinstance(value, float) else str(value)
            for key, value in expected.items()
        }, name


def test_every_method_has_a_row():
    assert set(ROWS) == set(TERM_CLASSES)


@pytest.mark.parametrize("name", ROWS)
def test_yaml_files_use_the_method(name):
    files = re.findall(r"\]\(\.\./(cfgs/[^)]+)\)", ROWS[name])
    assert len(files) == 2
    for file in files:
        terms = load_config(REPO / file).DISTILL.TERMS
        assert name in {term.NAME for term in terms.values()}


def block(kind, containing):
    """The page's code of a language that contains some words."""
    return next(
        code for code in re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL) if containing in code
    )


@pytest.fixture
def peak_transfer(tmp_path, monkeypatch):
    """The folder of a user who wrote down what the page shows."""
    (tmp_path / "peak_transfer.py").write_text(block("python", "class PeakLoss"))
    (tmp_path / "test_peak_transfer.py").write_text(block("python", "def test_peaks"))
    (tmp_path / "peaks.yaml").write_text(block("yaml", "PeakLoss"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PCDET_DISTILL_PLUGINS", str(tmp_path))  # as --plugin does
    yield tmp_path
    for name in ("peak_transfer", "test_peak_transfer"):
        sys.modules.pop(name, None)


def test_the_method_of_the_page_trains_a_step(peak_transfer, teacher_of):
    model, spec = test_recipes.small_distiller(peak_transfer / "peaks.yaml", teacher_of)
    before = model.student.backbone_2d.blocks[0][1].weight.clone()
    ret, tb, _ = model(voxel_batch(spec))
    ret["loss"].backward()
    torch.optim.SGD(model.parameters(), lr=0.01).step()
    assert not torch.equal(before, model.student.backbone_2d.blocks[0][1].weight)
    term = model.head.terms["PEAKS"]
    assert type(term.loss).__name__ == "PeakLoss"
    assert term.loss.options.gain == 2
    assert term.weight == 0.5
    assert tb["distill_peaks"] > 0
    assert tb["distill_peaks_teacher"].isfinite()
    assert "PeakLoss" not in DISTILL_LOSSES


def test_the_test_of_the_page_passes(peak_transfer):
    importlib.import_module("test_peak_transfer").test_peaks()


@pytest.mark.parametrize(
    "name, words",
    [
        (
            "peak_transfer.PeakLos",
            "'PeakLos' is no DistillLoss or BatchTransform of peak_transfer; "
            "did you mean 'PeakLoss'",
        ),
        (
            "peak_transfer.PeakOptions",
            "'PeakOptions' is no DistillLoss or BatchTransform of peak_transfer",
        ),
        (
            "peak_transver.PeakLoss",
            "'peak_transver' cannot be imported .* is installed, or lies in a folder",
        ),
        ("..PeakLoss", "unknown name '..PeakLoss'"),
        ("PeakLos", "unknown name 'PeakLos'"),
    ],
)
def test_a_wrong_name_of_a_method_of_ones_own(peak_transfer, name, words):
    with pytest.raises(ConfigError, match=f"^T.NAME: {words}"):
        find_term_class(name, "T.NAME")


def test_a_wrong_key_of_a_method_of_ones_own(peak_transfer):
    loss = find_term_class("peak_transfer.PeakLoss", "T.NAME")
    with pytest.raises(ConfigError, match="unknown key 'GIAN'; did you mean 'GAIN'"):
        loss.from_config({"GIAN": 1}, None, None, "T")


def test_a_method_in_the_table_goes_by_its_class_alone(peak_transfer, monkeypatch):
    loss = find_term_class("peak_transfer.PeakLoss", "T")
    monkeypatch.setitem(DISTILL_LOSSES, "PeakLoss", loss)
    model = distiller({"PEAKS": {"NAME": "PeakLoss", "STUDENT": BEV, "TEACHER": BEV}})
    assert type(model.head.terms["PEAKS"].loss) is loss
    assert model(toy_batch())[1]["distill_peaks"] > 0


def test_every_method_lists_its_departures_from_the_paper():
    table = PAGE[PAGE.index("## What differs from the papers") : PAGE.index("## Weights")]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(TERM_CLASSES)
    for name, term_class in TERM_CLASSES.items():
        assert "\nDepartures" in sys.modules[term_class.__module__].__doc__, name
