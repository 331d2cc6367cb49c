"""Damaged files as rows of the table of faults."""

from __future__ import annotations

import pytest

from benchmarks.faults import damaged
from benchmarks.faults.fuzz import ACCEPTED, HANG, REFUSED, Result
from benchmarks.faults.outcomes import rows_of

OUTCOMES = (ACCEPTED, REFUSED, ACCEPTED, REFUSED, REFUSED)


def test_every_input_is_counted_by_what_became_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [("yaml", number, Result(outcome)) for number, outcome in enumerate(OUTCOMES)]
    found.append(("yaml", 7, Result(HANG, "first line\nlast line")))
    monkeypatch.setattr(damaged, "results", lambda *_: iter(found))
    (row,) = rows_of(list(damaged.damage_trials(6, 0)))
    assert row.fault == "damaged: yaml"
    assert (row.times, row.held, row.said, row.lost) == (6, 2, 3, 1)
    assert row.losses == ["seed 7: hang: last line"]


def test_a_file_is_a_trial_as_soon_as_it_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of an hour that is stopped keeps what it has counted."""

    def one_and_then_the_end() -> object:
        yield "yaml", 0, Result(ACCEPTED)
        raise KeyboardInterrupt

    monkeypatch.setattr(damaged, "results", lambda *_: one_and_then_the_end())
    assert next(damaged.damage_trials(2, 0)).fault == "damaged: yaml"
