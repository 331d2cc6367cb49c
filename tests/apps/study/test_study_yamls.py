"""The studies of cfgs/study: every one can be read, and the hard ones can show what they claim."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from pcdet_distill.apps.study import Options, StudyPlan
from pcdet_distill.apps.study.results.shown import SEEDS_NEEDED, TEACHER_FACTOR, longer_row

REPO = Path(__file__).resolve().parents[3]
STUDIES = sorted(path.name for path in (REPO / "cfgs/study").glob("*.yaml"))
HARD = [name for name in STUDIES if name.startswith("hard_")]


@cache
def read(name: str) -> StudyPlan:
    """The plan of a study; the tests do not change it."""
    return StudyPlan.read(REPO / "cfgs/study" / name, REPO, Options("cpu"))


@pytest.mark.parametrize("name", STUDIES)
def test_every_row_is_a_configuration(name):
    plan = read(name)
    assert set(plan.configs) >= set(plan.spec.rows)


@pytest.mark.parametrize("name", STUDIES)
def test_the_header_has_the_command(name):
    text = (REPO / "cfgs/study" / name).read_text()
    assert f"# python tools/study.py cfgs/study/{name} " in text


@pytest.mark.parametrize("name", HARD)
def test_the_header_says_what_is_decided_and_what_it_costs(name):
    text = (REPO / "cfgs/study" / name).read_text()
    assert text.startswith("# Decides ")
    assert "\n# Cost: about " in text


@pytest.mark.parametrize("name", HARD)
def test_every_evaluation_knows_the_true_boxes(name):
    evaluate = read(name).spec.evaluate
    assert evaluate == ("val", "holdout_true", "holdout")


@pytest.mark.parametrize("name", HARD)
def test_every_teacher_of_a_claim_is_held_against_three_times_the_epochs(name):
    """Rows of five seeds are those that claim something."""
    plan = read(name)
    for row in plan.spec.rows.values():
        if plan.distils(row) and row.against and len(row.seeds) >= SEEDS_NEEDED:
            plain = plan.spec.row(row.baseline)
            assert longer_row(plan, plain, factor=TEACHER_FACTOR) is not None, row.name


@pytest.mark.parametrize("name", HARD)
def test_both_rows_of_a_claim_have_five_seeds(name):
    plan = read(name)
    for row in plan.spec.rows.values():
        if len(row.seeds) < SEEDS_NEEDED:
            continue
        others = [plan.spec.row(other) for other in row.against]
        pairs = [len(set(row.seeds) & set(other.seeds)) for other in others]
        assert not pairs or max(pairs) >= SEEDS_NEEDED, row.name


def test_rows_that_studies_share_are_the_same():
    """Rows of one name in studies with one SHARE are trained once."""
    known: dict[tuple[str, str], dict] = {}
    for name in HARD:
        plan = read(name)
        for row in plan.spec.rows.values():
            if plan.spec.share is None or not plan.is_shared(row):
                continue
            identity = plan.identity(row, row.seeds[0])
            assert known.setdefault((plan.spec.share, row.name), identity) == identity, row.name
