"""Damaged files, as trials: accepted, refused in one sentence, or worse."""

from __future__ import annotations

from collections.abc import Iterator

from .fuzz import ACCEPTED, REFUSED, Result, results
from .outcomes import HELD, LOST, SAID, Trial
from .targets import TARGETS

DAMAGED = "damaged: "
MEANINGS = {ACCEPTED: HELD, REFUSED: SAID}


def damage_trials(number: int, seed: int) -> Iterator[Trial]:
    """``number`` damaged files of all kinds, and the hostile ones, each read by its reader."""
    for target, input_seed, result in results(number, seed, list(TARGETS)):
        yield trial_of(target, input_seed, result)


def trial_of(target: str, seed: int, result: Result) -> Trial:
    """What came of one file, with the last line of a traceback."""
    fault = f"{DAMAGED}{target}"
    if result.outcome in MEANINGS:
        return Trial(fault, MEANINGS[result.outcome], seed=seed)
    lines = result.said.strip().splitlines() or [""]
    return Trial(fault, LOST, f"{result.outcome}: {lines[-1]}", seed)
