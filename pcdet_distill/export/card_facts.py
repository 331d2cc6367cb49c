"""The facts of a model card: from the config, the checkpoint, the data folder and evaluations."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from easydict import EasyDict

from ..checkpoint import load_checkpoint
from ..config import resolve_data_path
from ..errors import DataError
from ..inference import Detector
from ..measure import count_gflops, count_parameters
from ..report.comparison import BENCHMARKS, ap_words, read_ap, read_nuscenes
from ..types import BatchDict
from .hub import plain_values
from .model_card import APACHE, CardFacts, CardResults

OTHER_LICENSE = "other"
SIMULATED = "synthetic.json"  # the simulator leaves it in its folders
DATASETS = {
    "KittiDataset": "KITTI's layout",
    "NuScenesDataset": "nuScenes' layout",
    "Argo2Dataset": "Argoverse 2's layout",
    "CustomDataset": "own data",
}


def facts_of(
    detector: Detector,
    ckpt: str | Path,
    *,
    results: Sequence[str | Path] = (),
    teacher_results: Sequence[str | Path] = (),
    license: str | None = None,
    data: str | None = None,
    batch: BatchDict | None = None,
) -> CardFacts:
    """What can be told of a detector.

    Args:
        detector: with the weights of ``ckpt``.
        ckpt: the checkpoint; the evaluation of its training is looked for beside it.
        results: metrics.json of evaluations, of trainings that differ in their seed. Without them
            the one beside the checkpoint is told, if there is one.
        teacher_results: the same of the teacher.
        license: of the weights. By default Apache for simulated data, ``other`` for all else.
        data: a phrase for the data.
        batch: one frame, to count multiply-adds.
    """
    cfg = detector.cfg
    checkpoint = load_checkpoint(ckpt)
    if not results:
        found = evaluation_beside(Path(ckpt))
        own_results = None if found is None else read_results([found], cfg, must_read=False)
    else:
        own_results = read_results(results, cfg)
    distill = cfg.get("DISTILL") or {}
    is_simulated = simulated_frames(cfg) is not None
    return CardFacts(
        name=cfg.TAG,
        detector=cfg.MODEL.NAME,
        class_names=detector.class_names,
        features=detector.dataset.point_feature_encoder.used_feature_list,
        range_m=[float(limit) for limit in cfg.DATA_CONFIG.POINT_CLOUD_RANGE],
        data=data or data_phrase(cfg),
        license=license or (APACHE if is_simulated else OTHER_LICENSE),
        parameters=count_parameters(detector.model),
        gflops=None if batch is None else count_gflops(detector.model, batch),
        checkpoint=Path(ckpt).name,
        epochs=_whole_number(checkpoint.get("epoch")),
        seed=_whole_number(checkpoint.get("seed")),
        results=own_results,
        teacher=_teacher_name(distill),
        teacher_results=read_results(teacher_results, cfg) if teacher_results else None,
        distill=without_places(distill),
    )


def _whole_number(value: object) -> int | None:
    return value if isinstance(value, int) else None


def evaluation_beside(ckpt: Path) -> Path | None:
    """The newest metrics.json of the epoch of a checkpoint in its training's folder, or None."""
    epoch = re.search(r"epoch_(\d+)", ckpt.stem)
    if epoch is None or ckpt.parent.name != "ckpt":
        return None
    found = (ckpt.parents[1] / "eval").glob(f"**/epoch_{epoch[1]}/**/metrics.json")
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def read_results(
    paths: Sequence[str | Path], cfg: EasyDict, *, must_read: bool = True
) -> CardResults | None:
    """The AP of evaluations, for the classes that all of them have an AP of.

    Args:
        must_read: whether a file of another benchmark is a DataError; else it gives None.
    """
    runs = []
    scores = []
    frames = 0
    for path in map(Path, paths):
        ap, further = _read_evaluation(path, cfg)
        if not next(iter(ap.values())):
            if not must_read:
                return None
            raise DataError(
                f"{path}: holds no AP of {', '.join(cfg.CLASS_NAMES)}; expected the metrics.json "
                "of an evaluation of this detector"
            )
        runs.append(ap)
        scores.append(further)
        frames = int(json.loads(path.read_text()).get("samples") or 0)
    is_nuscenes = cfg.DATA_CONFIG.get("DATASET") == "NuScenesDataset"
    words = BENCHMARKS["nuscenes"].words if is_nuscenes else ap_words(cfg.DATA_CONFIG)
    return CardResults(words.rstrip("."), _common_classes(runs), scores, frames)


def _read_evaluation(
    path: Path, cfg: EasyDict
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """AP by metric and class, without the classes that have none; and further scores."""
    is_nuscenes = cfg.DATA_CONFIG.get("DATASET") == "NuScenesDataset"
    ap: dict[str, dict[str, float]] = {"ap": {}} if is_nuscenes else {"bev": {}, "3d": {}}
    further: dict[str, float] = {}
    for name in cfg.CLASS_NAMES:
        try:
            if is_nuscenes:
                of_class, further = read_nuscenes(path, [name])
            else:
                of_class = read_ap(path, [name])
        except DataError:
            if not path.is_file():
                raise DataError(f"{path}: no such file; expected a metrics.json") from None
            continue
        for metric, values in of_class.items():
            ap[metric].update(values)
    return ap, further


def _common_classes(
    runs: Sequence[dict[str, dict[str, float]]],
) -> list[dict[str, dict[str, float]]]:
    """The runs with the classes that every one has."""
    common = []
    for run in runs:
        kept: dict[str, dict[str, float]] = {}
        for metric, by_class in run.items():
            names = [name for name in by_class if all(name in other[metric] for other in runs)]
            kept[metric] = {name: by_class[name] for name in names}
        common.append(kept)
    return common


def simulated_frames(cfg: EasyDict) -> Path | None:
    """The simulator's file in the folder of the data, if they were simulated and are there."""
    if "DATA_PATH" not in cfg.DATA_CONFIG:
        return None
    file = resolve_data_path(cfg.DATA_CONFIG.DATA_PATH, cfg.ROOT_DIR) / SIMULATED
    return file if file.is_file() else None


def data_phrase(cfg: EasyDict) -> str:
    """``simulated frames in KITTI's layout (synthetic_kitti)``."""
    name = cfg.DATA_CONFIG.get("DATASET", "")
    layout = DATASETS.get(name, name)
    folder = Path(str(cfg.DATA_CONFIG.get("DATA_PATH") or "")).name
    phrase = f"simulated frames in {layout}" if simulated_frames(cfg) else f"frames in {layout}"
    if name == "CustomDataset" and not simulated_frames(cfg):
        phrase = layout
    return f"{phrase} ({folder})" if folder else phrase


def _teacher_name(distill: EasyDict) -> str:
    """The yaml of the teacher, or its class."""
    teacher = distill.get("TEACHER") or {}
    if teacher.get("CFG_FILE"):
        return Path(teacher["CFG_FILE"]).stem
    model = teacher.get("MODEL") or {}
    return model.get("NAME", "") if isinstance(model, dict) else Path(str(model)).stem


def without_places(distill: EasyDict) -> dict[str, object]:
    """The DISTILL block without what holds on this machine only: the checkpoint's path."""
    block = plain_values(distill)
    if isinstance(block.get("TEACHER"), dict):
        block["TEACHER"].pop("CKPT", None)
        block["TEACHER"].pop("MODEL", None)
    return block
