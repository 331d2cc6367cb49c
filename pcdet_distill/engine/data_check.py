"""A look at the data before a training: doubts about it, once, in a few log lines."""

from __future__ import annotations

import logging

from ..datasets import DatasetTemplate
from ..datasets.doubts import find_doubts
from ..datasets.facts import gather_facts
from ..errors import DataError

NUM_FRAMES = 200
LIMIT_S = 4.0


def report_doubts(dataset: object, logger: logging.Logger, limit_s: float = LIMIT_S) -> None:
    """Log what a sample of the frames gives reason to doubt; a healthy data set gets no line.

    Only a frame that cannot be read ends the training, as it would when it is drawn.

    Args:
        dataset: of any class; one that is no ``DatasetTemplate`` cannot be looked at.
        limit_s: the sample is smaller where the disk is slow.
    """
    if not isinstance(dataset, DatasetTemplate):
        return
    facts = gather_facts(dataset, NUM_FRAMES, limit_s)
    doubts = find_doubts(facts, dataset)
    if doubts:
        seen = len(facts.frames) + len(facts.unreadable)
        logger.warning(
            f"doubts about the data in {dataset.root_path}, from a sample of {seen} of "
            f"{facts.num_frames} frames ('pcdet-distill doctor' looks closer):"
        )
    for doubt in doubts:
        logger.warning(f"  {doubt.name:<12}  {doubt.what}")
        logger.warning(f"  {'':<12}  remedy: {doubt.remedy}")
    if facts.unreadable and not dataset.skip_bad_frames:
        name, reason = next(iter(facts.unreadable.items()))
        raise DataError(f"frame {name}: {reason}")
