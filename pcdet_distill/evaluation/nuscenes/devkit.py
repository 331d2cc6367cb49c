"""The official evaluation of nuscenes-devkit, where it is installed."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
from collections.abc import Collection, Sequence
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ...errors import UserError
from ...extras import how_to_install
from .protocol import CONFIG_NAME, DETECTION_NAMES, ERRORS, MATCH_DISTANCES_M
from .result import NuScenesResult

# The splits of each version; scenes outside of them are not evaluated.
VERSION_SPLITS = {
    "v1.0-mini": ("mini_val", "mini_train"),
    "v1.0-trainval": ("val", "train"),
    "v1.0-test": ("test",),
}


class DevkitUnusable(UserError):
    """Why the devkit cannot score these detections, as half a sentence."""


def devkit_version() -> str | None:
    """Version of the installed nuscenes-devkit; None without one that can be imported."""
    try:
        import nuscenes.eval.detection.evaluate  # noqa: F401

        return importlib.metadata.version("nuscenes-devkit")
    except ImportError:
        return None


def devkit_result(
    result_file: Path,
    root: Path,
    version: str,
    tokens: Collection[str],
    classes: Sequence[str] = DETECTION_NAMES,
) -> NuScenesResult:
    """The numbers that nuscenes-devkit computes from a result file.

    Args:
        result_file: as ``write_submission`` writes it.
        root: the folder that holds the folder of tables.
        version: name of the folder of tables.
        tokens: the samples in the result file.
        classes: order of the classes in the text.

    Raises:
        DevkitUnusable: it is not installed, or does not take this version, split or folder.
    """
    installed = devkit_version()
    if installed is None:
        raise DevkitUnusable(f"nuscenes-devkit is not installed ({how_to_install('nuscenes')})")
    split = matching_split(str(root), version, frozenset(tokens))
    try:
        evaluation = _evaluation(result_file, root, version, split)
        metrics, _ = evaluation.evaluate()
    # The devkit checks by assert and raises plain exceptions.
    except Exception as error:
        raise DevkitUnusable(f"nuscenes-devkit {installed} stops: {error}") from error
    ap = {}
    errors = {}
    for name in DETECTION_NAMES:
        ap[name] = {
            distance: float(metrics.get_label_ap(name, distance)) for distance in MATCH_DISTANCES_M
        }
        errors[name] = {error: float(metrics.get_label_tp(name, error)) for error in ERRORS}
    labelled = [box.detection_name for box in evaluation.gt_boxes.all]
    num_objects = {name: labelled.count(name) for name in DETECTION_NAMES}
    return NuScenesResult(
        ap, errors, num_objects, tuple(classes), f"nuscenes-devkit {installed}, split {split}"
    )


def matching_split(root: str, version: str, tokens: frozenset[str]) -> str:
    """The official split whose samples are exactly ``tokens``: the devkit scores no other set."""
    if version not in VERSION_SPLITS:
        raise DevkitUnusable(f"nuscenes-devkit has no splits of '{version}'")
    samples = _samples_of_splits(root, version)
    for split in VERSION_SPLITS[version]:
        if samples[split] == tokens:
            return split
    counts = ", ".join(f"{split} {len(found)}" for split, found in samples.items())
    raise DevkitUnusable(
        f"the {len(tokens)} evaluated samples are no official split of this folder ({counts})"
    )


def _samples_of_splits(root: str, version: str) -> dict[str, frozenset[str]]:
    """The tokens of the samples of each split of a version."""
    from nuscenes.utils.splits import create_splits_scenes

    scenes_of_split = create_splits_scenes()
    tables = _opened(root, version)
    scene_names = {row["token"]: row["name"] for row in tables.scene}
    samples = {}
    for split in VERSION_SPLITS[version]:
        scenes = set(scenes_of_split[split])
        samples[split] = frozenset(
            row["token"] for row in tables.sample if scene_names[row["scene_token"]] in scenes
        )
    return samples


@lru_cache(maxsize=1)
def _opened(root: str, version: str) -> Any:
    """The devkit's tables, which take a minute to read for the full data set: kept once read."""
    from nuscenes.nuscenes import NuScenes

    try:
        return NuScenes(version=version, dataroot=root, verbose=False)
    except Exception as error:
        raise DevkitUnusable(f"nuscenes-devkit cannot open {root}: {error}") from error


def _evaluation(result_file: Path, root: Path, version: str, split: str) -> Any:
    """The devkit's evaluation of a result file, with both kinds of boxes filtered."""
    from nuscenes.eval.common.config import config_factory
    from nuscenes.eval.detection.evaluate import NuScenesEval

    # It makes a folder for plots; none are made. Its progress bar would break up the log.
    with TemporaryDirectory() as scratch, contextlib.redirect_stderr(io.StringIO()):
        return NuScenesEval(
            _opened(str(root), version),
            config=config_factory(CONFIG_NAME),
            result_path=str(result_file),
            eval_set=split,
            output_dir=scratch,
            verbose=False,
        )
