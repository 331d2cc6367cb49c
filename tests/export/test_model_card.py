"""The model card: its head in Hugging Face's keys, its tables and what it leaves out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from pcdet_distill.export.model_card import CardFacts, CardResults, model_card

RUNS = [
    {"bev": {"Car": 80.0, "Cyclist": 60.0}, "3d": {"Car": 70.0, "Cyclist": 50.0}},
    {"bev": {"Car": 82.0, "Cyclist": 60.0}, "3d": {"Car": 72.0, "Cyclist": 54.0}},
]
FACTS = CardFacts(
    name="pointpillar_4x",
    detector="PointPillar",
    class_names=["Car", "Cyclist"],
    features=["x", "y", "z", "intensity"],
    range_m=[0.0, -40.0, -3.0, 70.4, 40.0, 1.0],
    data="simulated frames",
    license="apache-2.0",
    parameters=165192,
)


def head_of(card: str) -> dict[str, object]:
    """The YAML between the first two lines of dashes."""
    _, head, _ = card.split("---\n", 2)
    return yaml.safe_load(head)


def table_of(card: str) -> dict[str, list[str]]:
    """The cells of each row of the table, by its title."""
    rows = {}
    for line in card.splitlines():
        if line.startswith("| "):
            title, *cells = [cell.strip() for cell in line.strip("|").split("|")]
            rows[title] = cells
    return rows


def test_the_least_that_is_known() -> None:
    card = model_card(FACTS)
    head = head_of(card)
    assert head["license"] == "apache-2.0"
    assert head["library_name"] == "pcdet_distill"
    assert head["pipeline_tag"] == "object-detection"
    assert "pointpillar" in head["tags"] and "knowledge-distillation" not in head["tags"]
    assert "model-index" not in head
    assert "not evaluated" in card and "165,192 parameters" in card
    assert "Car and Cyclist" in card and "x 0 to 70.4" in card
    assert "load_detector" in card
    assert "None" not in card and "Teacher" not in card


def test_one_training() -> None:
    results = CardResults("KITTI moderate, R40", RUNS[:1], frames=300)
    card = model_card(replace(FACTS, results=results, seed=3, epochs=64))
    assert table_of(card)["this model, 3D AP"] == ["70.0", "50.0", "60.0"]
    assert "seed 3: another seed gives other numbers" in card
    assert "on 300 frames" in card and "64 epochs" in card
    metrics = head_of(card)["model-index"][0]["results"][0]["metrics"]
    assert [metric["value"] for metric in metrics] == [70.0, 60.0]


def test_seeds_and_a_teacher() -> None:
    results = CardResults("KITTI moderate, R40", RUNS)
    teacher = CardResults("KITTI moderate, R40", RUNS[1:])
    distill = {"TEACHER": {"CFG_FILE": "teacher.yaml"}, "INIT_STUDENT": "SLICE"}
    card = model_card(
        replace(
            FACTS,
            results=results,
            teacher="teacher",
            teacher_results=teacher,
            distill=distill,
            gflops=0.186,
        )
    )
    rows = table_of(card)
    # Sample standard deviation of two numbers: their difference by the root of 2.
    assert rows["this model, BEV AP"] == ["81.0 ± 1.4", "60.0 ± 0.0", "70.5 ± 0.7"]
    assert rows["this model, 3D AP"] == ["71.0 ± 1.4", "52.0 ± 2.8", "61.5 ± 2.1"]
    assert rows["its teacher, 3D AP"] == ["72.0", "54.0", "63.0"]
    assert "2 trainings" in card and "Teacher: teacher" in card
    assert "0.19 billion multiply-adds" in card
    assert "INIT_STUDENT: SLICE" in card
    assert "knowledge-distillation" in head_of(card)["tags"]


def test_further_scores_have_a_row() -> None:
    runs = [{"ap": {"car": 50.0}}]
    card = model_card(replace(FACTS, results=CardResults("nuScenes", runs, [{"NDS": 45.0}])))
    assert table_of(card)["this model, NDS"] == ["", "45.0"]
    assert table_of(card)[""] == ["car", "mean"]


@pytest.mark.parametrize("license", ["other", "cc-by-nc-sa-4.0"])
def test_another_licence_is_said(license: str) -> None:
    card = model_card(replace(FACTS, license=license))
    assert head_of(card)["license"] == license
    assert f"Weights: {license}" in card
