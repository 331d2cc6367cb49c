"""Damaged files, as trials: accepted, refused in one sentence, or worse."""

from __future__ import annotations

from collections.abc import Iterator

from .fuzz import ACCEPTED, REFUSED, fuzz
from .outcomes import HELD, LOST, SAID, Trial
from .targets import TARGETS

DAMAGED = "damaged: "


def damage_trials(number: int, seed: int) -> Iterator[Trial]:
    """``number`` damaged files of all kinds, and the hostile ones, each read by its reader."""
    tally = fuzz(number, seed, list(TARGETS))
    for target, counts in tally.counts.items():
        fault = f"{DAMAGED}{target}"
        for outcome, meaning in ((ACCEPTED, HELD), (REFUSED, SAID)):
            for _ in range(counts[outcome]):
                yield Trial(fault, meaning)
    for target, input_seed, result in tally.findings:
        lines = result.said.strip().splitlines() or [""]
        yield Trial(f"{DAMAGED}{target}", LOST, f"{result.outcome}: {lines[-1]}", input_seed)
