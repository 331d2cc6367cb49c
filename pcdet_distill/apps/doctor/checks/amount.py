"""How many objects there are to learn from, and to evaluate on."""

from __future__ import annotations

from collections.abc import Iterator

from ..case import Case
from ..finding import Finding, Severity

CHECK = "amount"
# AP of 40 recall positions moves by 1/40 with each object below 40 objects. With n objects the
# standard error of a recall of one half is 0.5 / sqrt(n): 5 points with 100.
FEW_TO_EVALUATE = 41
ENOUGH_TO_EVALUATE = 100
FEW_TO_LEARN = 100


def check_amount(case: Case) -> Iterator[Finding]:
    """How many objects of each class there are, in a note for each split."""
    for split in case.splits:
        counts = expected_objects(case, split)
        least = ENOUGH_TO_EVALUATE if split == "val" else FEW_TO_LEARN
        few = {name: number for name, number in counts.items() if 0 < number < least}
        if few:
            yield _few_to_evaluate(few) if split == "val" else _few_to_learn(few)


def expected_objects(case: Case, split: str) -> dict[str, int]:
    """Objects of each trained class in the whole split, as far as the sample tells."""
    part = case.splits[split]
    names = case.names_in(split)
    scale = len(part.all_names) / max(len(part.frames), 1)
    return {name: round(names[name] * scale) for name in case.class_names}


def _few_to_learn(few: dict[str, int]) -> Finding:
    counts = ", ".join(f"{name} {number}" for name, number in few.items())
    return Finding(
        CHECK,
        Severity.NOTE,
        "split train",
        f"few objects to learn from: {counts}; detectors of this kind need hundreds of each class",
    )


def _few_to_evaluate(few: dict[str, int]) -> Finding:
    texts = [f"{name} {number} (by {50 / number**0.5:.0f})" for name, number in few.items()]
    what = f"few objects, so AP is uncertain by some points: {', '.join(texts)}"
    if min(few.values()) < FEW_TO_EVALUATE:
        what += "; AP with 40 recall positions needs 41 objects to use all of them"
    return Finding(
        CHECK,
        Severity.NOTE,
        "split val",
        what,
        fix=f"to compare two models, evaluate on {ENOUGH_TO_EVALUATE} objects of a class or more",
    )
