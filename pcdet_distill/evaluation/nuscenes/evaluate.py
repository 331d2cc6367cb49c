"""One call from detections in LiDAR coordinates to mAP and NDS."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ...errors import DataError
from ..result import EvaluationResult, PlainResult
from .boxes import EvalBoxes
from .devkit import DevkitUnusable, devkit_result
from .filters import filtered
from .protocol import DETECTION_NAMES
from .result import NuScenesResult
from .score import score_boxes
from .submission import (
    Detections,
    as_submission,
    detected_boxes,
    warn_of_left_out,
    write_submission,
)
from .tables import Tables
from .truth import Truth, read_poses, read_truth

UNLABELLED_VERSION = "v1.0-test"
Info = Mapping[str, Any]


def nuscenes_eval(
    infos: Sequence[Info],
    det_annos: Sequence[Detections],
    root: Path,
    version: str,
    *,
    classes: Sequence[str] = DETECTION_NAMES,
    output_path: Path | None = None,
    use_devkit: bool = True,
    logger: logging.Logger | None = None,
) -> EvaluationResult:
    """Score detections by nuScenes' rules.

    The official devkit computes the numbers where it is installed and the samples are one of its
    splits. Otherwise the rules of this package do, which give the same numbers.

    Args:
        infos: OpenPCDet's infos of the split; of them ``token`` is read.
        det_annos: of each sample ``name``, ``score``, ``boxes_lidar`` and ``metadata.token``.
        root: the folder that holds the folder of tables.
        version: name of the folder of tables, such as ``v1.0-mini``.
        classes: order of the classes in the text.
        output_path: receives ``results_nusc.json``, the file for nuScenes' server.
        use_devkit: False to compute the numbers here in any case.
        logger: receives what was left out and who computed the numbers.

    Returns:
        a ``NuScenesResult``; for the test version, which has no labels, a text without numbers.
    """
    logger = logger or logging.getLogger(__name__)
    tokens = _tokens(infos)
    ordered = _in_order(det_annos, tokens, logger)
    warn_of_left_out(ordered, logger)
    if version == UNLABELLED_VERSION:
        return _unlabelled(ordered, tokens, Tables(root, version), output_path)
    truth = _truth(str(root), version, tokens)
    found = detected_boxes(ordered, truth.poses)
    if output_path is not None:
        write_submission(as_submission(found, tokens), output_path)
    if use_devkit:
        try:
            return _by_devkit(found, root, version, tokens, classes)
        except DevkitUnusable as reason:
            logger.info("mAP and NDS by the rules of this package: %s", reason)
    return score_truth(truth, found, classes)


def score_truth(
    truth: Truth, found: EvalBoxes, classes: Sequence[str] = DETECTION_NAMES
) -> NuScenesResult:
    """The metric by the rules of this package, boxes that do not count left out."""
    return score_boxes(filtered(truth.boxes, truth), filtered(found, truth), classes)


@lru_cache(maxsize=1)
def _truth(root: str, version: str, tokens: tuple[str, ...]) -> Truth:
    """The labels of a split, kept for the evaluation of the next checkpoint."""
    return read_truth(Tables(Path(root), version), tokens)


def _tokens(infos: Sequence[Info]) -> tuple[str, ...]:
    """The samples of the split, each once."""
    tokens = []
    for number, info in enumerate(infos):
        if "token" not in info:
            raise DataError(f"info {number} of the split has no 'token', so it is none of nuScenes")
        tokens.append(str(info["token"]))
    if not tokens:
        raise DataError("the evaluated split holds no samples")
    return tuple(dict.fromkeys(tokens))


def _in_order(
    det_annos: Sequence[Detections], tokens: Sequence[str], logger: logging.Logger
) -> list[Detections]:
    """One entry for each token; of a sample that comes twice the first one counts."""
    by_token = {token_of(anno): anno for anno in reversed(det_annos)}
    unknown = set(by_token) - set(tokens)
    if unknown:
        raise DataError(
            f"detections of the sample '{min(unknown)}' do not belong to the evaluated split"
        )
    missing = len(tokens) - len(by_token)
    if missing:
        logger.warning(
            "%d of %d samples have no detections: their objects count as not found",
            missing,
            len(tokens),
        )
    empty: Detections = {"name": [], "score": [], "boxes_lidar": np.zeros((0, 7))}
    return [by_token.get(token, empty) for token in tokens]


def token_of(anno: Detections) -> str:
    """The token of the sample that the detections are of."""
    metadata = anno.get("metadata")
    if not isinstance(metadata, Mapping) or "token" not in metadata:
        raise DataError(
            f"detections of frame {anno.get('frame_id', '?')}: expected metadata.token, "
            "the token of nuScenes' sample"
        )
    return str(metadata["token"])


def _unlabelled(
    ordered: Sequence[Detections],
    tokens: Sequence[str],
    tables: Tables,
    output_path: Path | None,
) -> PlainResult:
    """Write the file for nuScenes' server, which alone has the labels."""
    if output_path is None:
        return PlainResult(f"{tables.folder} has no labels: nothing is evaluated", {})
    found = detected_boxes(ordered, read_poses(tables, tokens))
    path = write_submission(as_submission(found, tokens), output_path)
    return PlainResult(f"{tables.folder} has no labels: send {path} to nuScenes' server", {})


def _by_devkit(
    found: EvalBoxes, root: Path, version: str, tokens: Sequence[str], classes: Sequence[str]
) -> NuScenesResult:
    """The devkit's numbers, by a result file of its own."""
    with TemporaryDirectory() as folder:
        path = write_submission(as_submission(found, tokens), Path(folder))
        return devkit_result(path, root, version, tokens, classes)
