"""The mean of several records of one row: the same yaml trained with several seeds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .record import Division, PrecisionCurve, Record

NUM_POINTS = 101  # of a mean curve


def mean_record(records: Sequence[Record], name: str) -> Record:
    """Mean curves and mean AP of parts, with the standard deviation over the seeds (n - 1).

    Tables and frames are left out: those of a single run stay in its own report.
    """
    first = records[0]
    return replace(
        first,
        name=name,
        primary=[],
        tables=[],
        errors={},
        scenes=[],
        teacher=None,
        curves=[_mean_curve(records, curve) for curve in first.curves],
        divisions=[_mean_division(records, division) for division in first.divisions],
    )


def _mean_curve(records: Sequence[Record], like: PrecisionCurve) -> PrecisionCurve:
    """Mean precision at equal recalls; a recall that a seed does not reach has precision 0."""
    place = (like.class_name, like.criterion)
    found = []
    for record in records:
        found += [each for each in record.curves if (each.class_name, each.criterion) == place]
    recall = np.linspace(0, 1, NUM_POINTS)
    rows = [precision_at(curve, recall) for curve in found]
    return replace(
        like,
        ap=statistics.fmean(curve.ap for curve in found),
        recall=recall.round(4).tolist(),
        precision=np.mean(rows, axis=0).round(5).tolist(),
    )


def precision_at(curve: PrecisionCurve, recall: np.ndarray) -> np.ndarray:
    """Precision (N,) of a curve at rising recalls (N,).

    A curve may fall at one recall; the value before the fall counts there.
    """
    xs, firsts = np.unique(curve.recall, return_index=True)
    values = np.asarray(curve.precision)[firsts]
    return np.interp(recall, xs, values, right=0.0)


def _mean_division(records: Sequence[Record], like: Division) -> Division:
    place = (like.class_name, like.by, like.labels)
    found = []
    for record in records:
        for each in record.divisions:
            if (each.class_name, each.by, each.labels) == place:
                found.append(each)
    columns = list(zip(*(each.ap for each in found)))
    recalls = list(zip(*(each.recall for each in found)))
    return replace(
        like,
        ap=[_mean(values) for values in columns],
        recall=[_mean(values) for values in recalls],
        spread=[_deviation(values) for values in columns],
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _deviation(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.stdev(known) if len(known) > 1 else None
