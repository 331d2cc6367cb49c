"""When a gain counts as shown: every condition alone, and what the table says of it."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import study_toys

from pcdet_distill.apps.study.results.shown import Evidence, warnings, what_is_shown
from pcdet_distill.apps.study.results.table import make_table
from pcdet_distill.apps.study.results.text import to_markdown, to_text
from pcdet_distill.apps.study.survey import FINISHED, Outcome

SPLITS = ("val", "holdout")
SEEDS = (0, 1, 2, 3, 4)
ROWS = {
    "plain": {"CONFIG": "cfgs/toys/plain.yaml"},
    "plain_2x": {"LIKE": "plain", "EPOCHS": 4, "AGAINST": []},
    "plain_3x": {"LIKE": "plain", "EPOCHS": 6, "AGAINST": []},
    "recipe": {"CONFIG": "cfgs/toys/recipe.yaml"},
    "recipe_2x": {"LIKE": "recipe", "EPOCHS": 4, "AGAINST": []},
}
# 3D mAP by row, one number a seed. The differences of recipe and plain are 2, 3, 2, 4, 4: mean 3,
# squares of the deviations 1 + 0 + 1 + 1 + 1 = 4, standard error sqrt(4 / 4 / 5) = 0.447.
PLAIN = (30.0, 31.0, 32.0, 33.0, 34.0)
RECIPE = (32.0, 34.0, 34.0, 37.0, 38.0)
SCORES = {
    "plain": PLAIN,
    "recipe": RECIPE,
    # Double epochs: plain changes by 1, -1, 0, 0, 0 and the recipe by 0, 0, 0, 2, -2. Both means
    # are 0, below every standard error: both rows are at saturation.
    "plain_2x": (31.0, 30.0, 32.0, 33.0, 34.0),
    "recipe_2x": (32.0, 34.0, 34.0, 39.0, 36.0),
    "plain_3x": PLAIN,
    "teacher": (40.0,),
}
EQUAL_COSTS = {"plain": 100.0, "recipe": 103.0}


def make_plan(root, rows=ROWS, splits=SPLITS, **changes):
    content = study_toys.study(ROWS=rows, SEEDS=list(SEEDS), EVALUATE=list(splits), **changes)
    return study_toys.make_plan(root, content)


def outcomes_of(plan, scores, val=None):
    """Runs with the 3D mAP of ``scores``; on val that of ``val`` where it names the row."""
    outcomes = {}
    for run in plan.runs():
        place = SEEDS.index(run.seed)
        row_scores = scores.get(run.row.name, ())
        if place >= len(row_scores):
            continue
        ap = {split: as_ap(row_scores[place]) for split in plan.spec.evaluate}
        if val and run.row.name in val:
            ap["val"] = as_ap(val[run.row.name][place])
        outcomes[run.name] = Outcome(run, FINISHED, "", ap)
    return outcomes


def as_ap(score):
    """AP of two classes whose mean is ``score``."""
    by_class = {"Car": score + 1, "Cyclist": score - 1}
    return {"3d": by_class, "bev": by_class}


@pytest.fixture
def plan(tmp_path):
    return make_plan(tmp_path)


def verdict(plan, scores=SCORES, *, costs=EQUAL_COSTS, val=None):
    """The verdict on recipe against plain."""
    shown = what_is_shown(Evidence(plan, outcomes_of(plan, scores, val), costs))
    return next(each for each in shown if (each.row, each.other) == ("recipe", "plain"))


def test_a_gain_that_fulfils_everything_is_shown(plan):
    shown = verdict(plan)
    assert shown.is_shown
    assert shown.verdict == "shown"
    assert shown.cost_ratio == pytest.approx(1.03)
    difference = shown.differences["holdout"]
    assert difference.values == (2.0, 3.0, 2.0, 4.0, 4.0)
    assert difference.mean == 3.0
    assert difference.standard_error == pytest.approx(0.4472136)


def test_four_seeds_are_too_few(plan):
    four = {name: scores[:4] for name, scores in SCORES.items()}
    assert verdict(plan, four).reasons == ["4 seeds, 5 needed"]


def test_one_seed_has_no_standard_error(plan):
    one = {name: scores[:1] for name, scores in SCORES.items()}
    assert verdict(plan, one).reasons == ["1 seed, 5 needed", "no standard error"]


def test_a_gain_within_two_standard_errors(plan):
    # Differences 0, 0, 0, 0, 5: mean 1; squares 4 * 1 + 16 = 20; error sqrt(20 / 4 / 5) = 1.
    scores = {**SCORES, "recipe": (30.0, 31.0, 32.0, 33.0, 39.0)}
    shown = verdict(plan, scores)
    assert shown.differences["holdout"].standard_error == pytest.approx(1.0)
    assert shown.reasons == ["+1.00 is within 2 standard errors (2.00)"]


def test_a_loss_is_no_gain_however_certain(plan):
    worse = tuple(score - 3.0 for score in PLAIN)
    assert verdict(plan, {**SCORES, "recipe": worse}).reasons == ["no gain"]


def test_another_sign_on_val(plan):
    shown = verdict(plan, val={"recipe": tuple(score - 0.5 for score in PLAIN)})
    assert shown.reasons == ["other sign on val (-0.5) than on holdout (+3.0)"]


def test_a_study_without_holdout_shows_nothing(tmp_path):
    plan = make_plan(tmp_path, splits=("val",))
    assert verdict(plan).reasons == ["holdout not evaluated"]


@pytest.mark.parametrize("recipe_s", [103.0, 100.0, 40.0])
def test_a_cost_up_to_three_percent_higher_is_equal(plan, recipe_s):
    scores = {**SCORES, "plain_2x": RECIPE}  # plain is not at saturation
    costs = {"plain": 100.0, "recipe": recipe_s}
    assert verdict(plan, scores, costs=costs).is_shown


def test_a_higher_cost_counts_at_saturation_only(plan):
    costs = {"plain": 100.0, "recipe": 104.0}
    assert verdict(plan, costs=costs).is_shown
    # Double epochs: plain gains 2, 3, 2, 4, 4, which is far above the standard error of 0.45.
    scores = {**SCORES, "plain_2x": RECIPE}
    assert verdict(plan, scores, costs=costs).reasons == [
        "costs 4 % more, and plain changes by +3.0+-0.4 with double epochs"
    ]


def test_saturation_needs_rows_of_double_epochs(tmp_path):
    rows = {name: row for name, row in ROWS.items() if not name.endswith("_2x")}
    plan = make_plan(tmp_path, rows)
    assert verdict(plan, costs={}).reasons == [
        "cost not measured, and recipe has no row of double epochs and "
        "plain has no row of double epochs"
    ]


def test_the_change_with_double_epochs_needs_two_seeds(plan):
    scores = {**SCORES, "plain_2x": (30.0,)}
    reasons = verdict(plan, scores, costs={}).reasons
    assert reasons == ["cost not measured, and plain_2x shares fewer than 2 seeds with plain"]


@pytest.mark.parametrize("teacher", [(31.0,), (32.0,)])
def test_a_teacher_below_three_times_the_epochs_of_plain(plan, teacher):
    shown = verdict(plan, {**SCORES, "teacher": teacher})
    assert shown.reasons == [f"teacher ({teacher[0]}) is not above plain_3x (32.0)"]


def test_a_study_that_does_not_train_plain_three_times_as_long(tmp_path):
    rows = {name: row for name, row in ROWS.items() if name != "plain_3x"}
    plan = make_plan(tmp_path, rows)
    assert verdict(plan).reasons == ["no row trains plain 3 times as long"]


def test_more_than_triple_epochs_hold_a_teacher_too(tmp_path):
    rows = {**ROWS, "plain_3x": {"LIKE": "plain", "EPOCHS": 7, "AGAINST": []}}
    assert verdict(make_plan(tmp_path, rows)).is_shown


def test_a_gain_without_a_teacher_needs_no_teacher(tmp_path):
    rows = {**ROWS, "plain_2x": {"LIKE": "plain", "EPOCHS": 4, "AGAINST": ["plain"]}}
    plan = make_plan(tmp_path, rows)
    scores = {**SCORES, "plain_2x": RECIPE, "teacher": (1.0,)}
    costs = {"plain": 100.0, "plain_2x": 100.0}
    shown = what_is_shown(Evidence(plan, outcomes_of(plan, scores), costs))
    assert [each.verdict for each in shown if each.row == "plain_2x"] == ["shown"]


def test_the_teacher_of_a_row_is_its_own(tmp_path):
    """A row whose teacher is another row is measured by that one."""
    rows = {
        **ROWS,
        "tall": {"CONFIG": "cfgs/toys/plain.yaml", "SEEDS": [0], "EPOCHS": 9, "AGAINST": []},
        "second": {"LIKE": "recipe", "TEACHER": "tall", "AGAINST": ["plain"]},
    }
    plan = make_plan(tmp_path, rows)
    scores = {**SCORES, "second": RECIPE, "tall": (20.0,)}
    shown = what_is_shown(Evidence(plan, outcomes_of(plan, scores), {"plain": 1.0, "second": 1.0}))
    second = next(each for each in shown if each.row == "second")
    assert second.reasons == ["tall (20.0) is not above plain_3x (32.0)"]


def test_several_reasons_stand_together(plan):
    scores = {**SCORES, "recipe": (29.0,), "teacher": (20.0,)}
    text = verdict(plan, scores).verdict
    assert text == (
        "not shown: 1 seed, 5 needed; no gain; teacher (20.0) is not above plain_3x (32.0)"
    )


def test_rows_are_compared_with_those_of_against_else_with_the_baseline(tmp_path):
    rows = {**ROWS, "recipe_2x": {"LIKE": "recipe", "EPOCHS": 4, "AGAINST": ["plain_2x", "recipe"]}}
    plan = make_plan(tmp_path, rows)
    shown = what_is_shown(Evidence(plan, outcomes_of(plan, SCORES), {}))
    assert [(each.row, each.other) for each in shown] == [
        ("recipe", "plain"),
        ("recipe_2x", "plain_2x"),
        ("recipe_2x", "recipe"),
    ]


def test_a_weak_teacher_is_warned_about_once(plan):
    scores = {**SCORES, "teacher": (31.0,)}
    evidence = Evidence(plan, outcomes_of(plan, scores), EQUAL_COSTS)
    warning = (
        "warning: teacher (31.0) is not above plain_3x (32.0); no gain from this teacher counts "
        "as shown"
    )
    assert warnings(evidence) == [warning]
    table = make_table(
        plan,
        evidence.outcomes,
        "holdout",
        shown=what_is_shown(evidence),
        warnings=warnings(evidence),
    )
    assert warning in to_text(table).splitlines()
    assert warnings(Evidence(plan, outcomes_of(plan, SCORES), EQUAL_COSTS)) == []


def test_the_table(plan):
    evidence = Evidence(plan, outcomes_of(plan, SCORES), EQUAL_COSTS)
    table = make_table(plan, evidence.outcomes, "holdout", shown=what_is_shown(evidence))
    section = to_text(table).split("What is shown")[1]
    line = next(line for line in section.splitlines() if line.startswith("recipe"))
    assert line.split() == ["recipe", "plain", "5", "+3.0+-0.4", "+3.0+-0.4", "1.03x", "shown"]
    cells = "| recipe | plain | 5 | +3.0±0.4 | +3.0±0.4 | 1.03x | shown |"
    assert cells in to_markdown(table).splitlines()
    plain = json.loads(json.dumps(asdict(table)))
    assert plain["shown"][0]["differences"]["val"]["values"] == [2.0, 3.0, 2.0, 4.0, 4.0]
