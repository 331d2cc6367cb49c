"""What of a study is published: a page whose text is kept, a plot, and results.csv."""

from __future__ import annotations

import csv
import json
import re

import study_toys

from pcdet_distill.apps.study.records import Records
from pcdet_distill.apps.study.results.publish import publish
from pcdet_distill.apps.study.results.table import make_table
from pcdet_distill.apps.study.runner import Runner
from pcdet_distill.apps.study.survey import survey
from pcdet_distill.report.comparison import BEGIN


def publish_toys(root):
    """Run the toys, of which one fails, and publish them; returns the page."""
    plan = study_toys.make_plan(root, **{"recipe-seed1": {"says": "error: nan"}})
    outcomes = Runner(plan, say=lambda _: None).run()
    measured = {"plain": {"parameters": 164_000, "gflops": 0.1234, "latency_ms": 17.6}}
    table = make_table(plan, outcomes, "val", measured=measured)
    return publish(plan, [table], root / "docs" / "study")


def read_results(page):
    with (page.parent / "results.csv").open() as file:
        return {line["run"]: line for line in csv.DictReader(file)}


def test_the_page_links_to_what_exists_and_has_the_commands(tmp_path):
    page = publish_toys(tmp_path)
    text = page.read_text()
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (page.parent / link).exists(), link
    assert "python toy.py recipe-seed0 2" in text
    assert "recipe-seed1 2" not in text
    assert "Also with `--seed` 1, and this number in the name `toys-recipe-seed0`." in text
    assert "FAILED recipe, seed 1: nan" in text


def test_runs_that_wait_for_the_same_stand_in_one_line(tmp_path):
    plan = study_toys.make_plan(tmp_path)
    outcomes = survey(plan, Records(plan))
    row = make_table(plan, outcomes, "val").row("plain")
    assert row.pending == ["seeds 0, 1: ready"]


def test_one_line_for_each_run_and_split(tmp_path):
    results = read_results(publish_toys(tmp_path))
    runs = ["teacher", "plain-seed0", "plain-seed1", "recipe-seed0", "recipe-seed1"]
    assert sorted(results) == sorted(runs)
    plain = results["plain-seed0"]
    assert plain["row"] == "plain"
    assert plain["seed"] == "0"
    assert plain["split"] == "val"
    assert plain["epochs"] == "2"
    assert plain["cpu_s"] == "2.00"
    assert plain["wall_s"] == "4.00"
    assert [plain[key] for key in ("parameters", "gflops", "latency_ms")] == [
        "164000",
        "0.12",
        "17.60",
    ]
    assert {plain["3d_Car"], plain["bev_Cyclist"], plain["3d_mAP"]} == {"12.00"}


def test_a_failed_run_has_a_line_without_numbers(tmp_path):
    results = read_results(publish_toys(tmp_path))
    assert results["recipe-seed1"]["status"] == "failed"
    assert results["recipe-seed1"]["3d_mAP"] == ""


def test_publishing_again_keeps_the_text_and_replaces_the_tables(tmp_path):
    page = publish_toys(tmp_path)
    before = page.read_text()
    page.write_text(before.replace(f"\n{BEGIN}", f"\nWhat was found.\n\n{BEGIN}"))
    (tmp_path / "toy.json").write_text(json.dumps({"ap": 20.0}))
    again = publish_toys(tmp_path).read_text()
    assert again == before.replace(f"\n{BEGIN}", f"\nWhat was found.\n\n{BEGIN}")
