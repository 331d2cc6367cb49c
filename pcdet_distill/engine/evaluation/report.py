"""An evaluation on paper: OpenPCDet's lines and the files result.pkl and metrics.json."""

from __future__ import annotations

import json
import logging
import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from ..logging import writing


def recall_values(recall: Mapping[str, float]) -> dict[str, float]:
    """``recall/roi_t`` and ``recall/rcnn_t`` for each threshold of the summed counts ``{gt, roi_t, rcnn_t}``."""
    ground_truth = max(recall.get("gt", 0), 1)
    thresholds = [key[len("rcnn_") :] for key in recall if key.startswith("rcnn_")]
    return {
        f"recall/{stage}_{threshold}": recall.get(f"{stage}_{threshold}", 0) / ground_truth
        for threshold in thresholds
        for stage in ("roi", "rcnn")
    }


def log_performance(
    logger: logging.Logger,
    epoch_id: str,
    seconds_per_sample: float,
    recalls: Mapping[str, float],
    det_annos: Sequence[Mapping[str, Any]],
) -> None:
    """What OpenPCDet says before the table."""
    logger.info(f"*************** Performance of EPOCH {epoch_id} *****************")
    logger.info(f"Generate label finished(sec_per_example: {seconds_per_sample:.4f} second).")
    for key, value in recalls.items():
        logger.info(f"recall_{key.removeprefix('recall/')}: {value:f}")
    objects = sum(len(anno["name"]) for anno in det_annos)
    logger.info(
        f"Average predicted number of objects({len(det_annos)} samples): "
        f"{objects / max(len(det_annos), 1):.3f}"
    )


def _write(path: Path, mode: str, fill: Callable[[IO[Any]], None]) -> None:
    """Write ``path`` whole or not at all."""
    partial = path.with_name(path.name + ".part")
    with writing(path):
        with partial.open(mode) as file:
            fill(file)
        os.replace(partial, path)


def write_results(
    folder: Path, det_annos: Sequence[Mapping[str, Any]], metrics: Mapping[str, Any]
) -> None:
    """``result.pkl`` (OpenPCDet's list of detections) and ``metrics.json``."""
    _write(folder / "result.pkl", "wb", lambda file: pickle.dump(list(det_annos), file))
    _write(
        folder / "metrics.json", "w", lambda file: json.dump(metrics, file, indent=2, default=float)
    )
