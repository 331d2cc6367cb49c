"""The mean of several seeds: curves at equal recalls, AP with its deviation."""

from __future__ import annotations

import numpy as np
import pytest
from toy_evaluation import random_evaluation, toy_evaluation

from pcdet_distill.report.collect import collect
from pcdet_distill.report.mean import mean_record, precision_at
from pcdet_distill.report.record import PrecisionCurve


def test_a_step_counts_before_its_fall():
    curve = PrecisionCurve("Car", "3D", "", 0.0, 1, [0.0, 0.5, 0.5, 0.8, 0.8], [1, 1, 0.5, 0.5, 0])
    at = precision_at(curve, np.array([0.0, 0.25, 0.5, 0.65, 0.8, 0.9]))
    np.testing.assert_allclose(at, [1, 1, 1, 0.75, 0.5, 0], atol=0.26)
    assert at[2] == 1 and at[5] == 0


def test_means_and_deviations_over_seeds():
    records = [collect(toy_evaluation(*random_evaluation(seed))) for seed in range(3)]
    mean = mean_record(records, "row")
    assert mean.name == "row" and not mean.tables and not mean.scenes
    for place, curve in enumerate(mean.curves):
        aps = [record.curves[place].ap for record in records]
        assert curve.ap == pytest.approx(np.mean(aps))
        heights = np.array(curve.precision)
        area = 100 * float((heights[1:] + heights[:-1]).mean() / 2)
        assert area == pytest.approx(curve.ap, abs=2.0)
    division = mean.divisions[0]
    near = [record.divisions[0].ap[0] for record in records]
    assert division.ap[0] == pytest.approx(np.mean(near))
    assert division.spread[0] == pytest.approx(np.std(near, ddof=1))


def test_one_seed_has_no_deviation():
    record = collect(toy_evaluation(*random_evaluation()))
    mean = mean_record([record], "row")
    assert set(mean.divisions[0].spread) == {None}
    assert mean.divisions[0].ap == record.divisions[0].ap
