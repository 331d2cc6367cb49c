"""Damaged files as rows of the table of faults."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.faults import damaged
from benchmarks.faults.fuzz import ACCEPTED, HANG, REFUSED, Result, Tally
from benchmarks.faults.outcomes import rows_of


def test_every_input_is_counted_by_what_became_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    tally = Tally({"yaml": Counter({ACCEPTED: 2, REFUSED: 3, HANG: 1})})
    tally.findings.append(("yaml", 7, Result(HANG, "first line\nlast line")))
    monkeypatch.setattr(damaged, "fuzz", lambda *_: tally)
    (row,) = rows_of(list(damaged.damage_trials(6, 0)))
    assert row.fault == "damaged: yaml"
    assert (row.times, row.held, row.said, row.lost) == (6, 2, 3, 1)
    assert row.losses == ["seed 7: hang: last line"]
