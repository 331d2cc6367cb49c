"""Paired differences against numbers computed by hand."""

from __future__ import annotations

import pytest

from pcdet_distill.apps.study.results.paired import Paired


def test_mean_and_standard_error_of_five_pairs():
    scores = {0: 50.0, 1: 52.0, 2: 51.0, 3: 55.0, 4: 57.0}
    others = {0: 49.0, 1: 50.0, 2: 50.0, 3: 51.0, 4: 55.0}
    difference = Paired.of(scores, others)
    assert difference.values == (1.0, 2.0, 1.0, 4.0, 2.0)
    assert difference.seeds == 5
    assert difference.mean == 2.0
    # Squares of the deviations: 1 + 0 + 1 + 4 + 0 = 6; variance 6 / 4; its error sqrt(1.5 / 5).
    assert difference.standard_error == pytest.approx(0.5477226)
    assert difference.text() == "+2.0+-0.5"


def test_only_seeds_of_both_rows_are_paired():
    difference = Paired.of({0: 10.0, 2: 14.0, 3: 9.0}, {3: 8.0, 1: 99.0, 2: 15.0})
    assert difference.values == (-1.0, 1.0)
    assert difference.mean == 0.0
    assert difference.standard_error == pytest.approx(1.0)  # sqrt(2) / sqrt(2)


def test_pairing_removes_what_the_seeds_share():
    """Scores spread over 20 points, and the difference is exact."""
    scores = {0: 41.0, 1: 51.0, 2: 61.0}
    others = {0: 40.0, 1: 50.0, 2: 60.0}
    assert Paired.of(scores, others).standard_error == 0.0


def test_one_pair_has_no_standard_error():
    difference = Paired.of({0: 3.0}, {0: 5.0})
    assert difference.standard_error is None
    assert difference.text() == "-2.0"


def test_rows_without_a_common_seed_are_not_compared():
    assert Paired.of({0: 3.0}, {1: 5.0}) is None
