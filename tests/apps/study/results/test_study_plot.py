"""The picture of a study."""

from __future__ import annotations

import pytest
import study_toys
from test_study_table import outcomes_of

from pcdet_distill.apps.study.results.plot import draw, spread_out
from pcdet_distill.apps.study.results.table import make_table


def test_the_plot(tmp_path):
    pytest.importorskip("matplotlib")
    plan = study_toys.make_plan(tmp_path)
    draw(make_table(plan, outcomes_of(plan), "val"), tmp_path / "plot.png", on_gpu=False)
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    "heights", [[0.5, 0.5, 0.5], [1.0, 1.0, 0.98], [0.01, 0.0, 0.0], [0.9, 0.5, 0.1], [0.5] * 10]
)
def test_names_in_the_plot_stay_apart_in_order_and_inside(heights):
    placed = spread_out(heights, 0.1)
    steps = [above - below for above, below in zip(placed, placed[1:])]
    assert min(steps) >= 0.1 - 1e-9
    assert placed[0] <= 1.0
    assert placed[-1] >= 0.0


def test_names_far_from_each_other_stay_beside_their_points():
    assert spread_out([0.9, 0.5, 0.1], 0.1) == [0.9, 0.5, 0.1]
