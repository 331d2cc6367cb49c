"""The report of an evaluation: OpenPCDet's lines, result.pkl and metrics.json."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeAlias

from ...datasets.safe_pickle import plain_pickle
from ...whole_files import whole_file
from ..logging import writing

# The detections in one frame, as in OpenPCDet's result.pkl: name (N,), score (N,), boxes and so on.
Annotation: TypeAlias = dict[str, Any]


def recall_values(counts: Mapping[str, float]) -> dict[str, float]:
    """Recall of RoIs (``recall/roi_t``) and final boxes (``recall/rcnn_t``) at each IoU t.

    Args:
        counts: labelled boxes as ``gt``, and those found as ``roi_t`` and ``rcnn_t``.
    """
    num_labels = max(counts.get("gt", 0), 1)
    recalls = {}
    for key in counts:
        if key.startswith("rcnn_"):
            threshold = key.removeprefix("rcnn_")
            for stage in ("roi", "rcnn"):
                name = f"{stage}_{threshold}"
                recalls[f"recall/{name}"] = counts.get(name, 0) / num_labels
    return recalls


def log_performance(
    logger: logging.Logger,
    epoch_id: str,
    seconds_per_sample: float,
    recalls: Mapping[str, float],
    annotations: Sequence[Annotation],
) -> None:
    """Log OpenPCDet's lines before the table."""
    logger.info(f"*************** Performance of EPOCH {epoch_id} *****************")
    logger.info(f"Generate label finished(sec_per_example: {seconds_per_sample:.4f} second).")
    for key, value in recalls.items():
        logger.info(f"recall_{key.removeprefix('recall/')}: {value:f}")
    num_frames = len(annotations)
    num_objects = sum(len(annotation["name"]) for annotation in annotations)
    logger.info(
        f"Average predicted number of objects({num_frames} samples): "
        f"{num_objects / max(num_frames, 1):.3f}"
    )


def write_results(
    folder: Path, annotations: Sequence[Annotation], metrics: Mapping[str, object]
) -> None:
    """Write ``result.pkl`` (OpenPCDet's list of detections) and ``metrics.json``."""

    def write_annotations(file: IO[Any]) -> None:
        file.write(plain_pickle(list(annotations)))

    def write_metrics(file: IO[Any]) -> None:
        json.dump(metrics, file, indent=2, default=float)

    _write_whole(folder / "result.pkl", "wb", write_annotations)
    _write_whole(folder / "metrics.json", "w", write_metrics)


def _write_whole(path: Path, mode: str, fill: Callable[[IO[Any]], None]) -> None:
    """Write ``path`` completely or not at all."""
    with writing(path), whole_file(path) as partial, partial.open(mode) as file:
        fill(file)
