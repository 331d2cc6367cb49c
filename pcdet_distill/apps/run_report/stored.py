"""Records from stored results, and the frames in which two runs differ."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ...config import load_config
from ...datasets import DatasetTemplate, build_dataset
from ...datasets.info_structures import check_detections
from ...datasets.kitti.kitti_dataset import KittiDataset
from ...datasets.kitti.result_files import read_result_file
from ...datasets.safe_pickle import load_plain_pickle
from ...engine.evaluation.run_report import ReportSource, make_record, with_frames
from ...errors import ConfigError, DataError, UserError
from ...evaluation.lidar.frame_errors import judge_frames
from ...report.collect import Evaluation, within_range
from ...report.record import Record, Scene, read_record, write_record
from ...report.scenes import scene_of
from ...types import ConfigDict
from .find import EXPECTED, Results

COMMAND = "# command: "
TOLERANCE_S = 60  # between the times of files that one evaluation wrote


def stored_record(
    results: Results, cfg_file: str | None = None, settings: Sequence[str] = ()
) -> Record:
    """The record of results; made from result.pkl and the data set where none is stored."""
    is_stored = results.record_file.is_file()
    if is_stored and results.newest <= results.record_file.stat().st_mtime + TOLERANCE_S:
        return read_record(results.record_file)
    if not results.newest:
        raise DataError(f"{results.folder}: no {results.detections_file.name}; {EXPECTED}")
    cfg, dataset = experiment_of(results, cfg_file, settings)
    annotations = detections_of(results, dataset)
    try:
        result = dataset.evaluate(annotations)
    except (LookupError, TypeError, ValueError) as error:
        raise DataError(
            f"{results.folder}: not the detections of {cfg['CONFIG_FILE']} ({error!r}); expected "
            "one dict a frame, as 'pcdet-distill test' writes them"
        ) from None
    source = ReportSource(cfg, _command(results))
    name = f"{cfg['TAG']}, {results.folder.parent.name}"
    return make_record(source, dataset, result, annotations, results.folder, name)


def keep_record(record: Record, results: Results) -> None:
    """Store a record beside its results, where that folder can be written."""
    try:
        write_record(record, results.folder)
    except OSError:
        return


def detections_of(results: Results, dataset: DatasetTemplate) -> list[dict[str, Any]]:
    """The detections of every frame: those of result.pkl, or of KITTI's result files."""
    files = results.text_files
    if not files:
        annotations = load_plain_pickle(results.detections_file, "evaluate again")
        check_detections(annotations, results.detections_file)
        return list(annotations)
    if not isinstance(dataset, KittiDataset):
        raise DataError(
            f"{results.folder}: KITTI's result files need the calibration of a KittiDataset, and "
            f"the yaml has a {type(dataset).__name__}; expected its {results.detections_file.name}"
        )
    names = [dataset.frame_name(index) for index in range(dataset.num_frames)]
    missing = [name for name in names if name not in files]
    if missing:
        raise DataError(
            f"{results.folder}: {len(missing)} of the {len(names)} frames of the split have no "
            f"result file, the first of them {missing[0]}.txt; expected a file for each frame, an "
            "empty one where nothing was found"
        )
    annotations = []
    for index, name in enumerate(names):
        found = read_result_file(files[name], dataset.calibration(index))
        annotations.append({**found, "frame_id": name})
    return annotations


def experiment_of(
    results: Results, cfg_file: str | None, settings: Sequence[str]
) -> tuple[ConfigDict, DatasetTemplate]:
    """The config of results and the frames of its test split."""
    file = cfg_file or results.config_file()
    if file is None:
        raise ConfigError(
            f"{results.folder}: no yaml of a training above it; expected --cfg_file, which says "
            "with which data the results were made"
        )
    cfg = load_config(file, settings)
    dataset = build_dataset(cfg.DATA_CONFIG, cfg.CLASS_NAMES, root_dir=cfg.ROOT_DIR, training=False)
    return cfg, dataset


def _command(results: Results) -> str:
    """The command in the heading of the training's yaml."""
    file = results.config_file()
    lines = [] if file is None else file.read_text(encoding="utf-8").splitlines()
    commands = [line.removeprefix(COMMAND) for line in lines if line.startswith(COMMAND)]
    return commands[0] if commands else ""


def model_numbers(results: Results) -> dict[str, str]:
    """Facts in metrics.json: the epoch, and the time of a frame."""
    file = results.folder / "metrics.json"
    try:
        numbers = json.loads(file.read_text(encoding="utf-8"))
        milliseconds = 1000 * float(numbers["seconds_per_sample"])
        return {
            "epoch": str(numbers["epoch"]),
            "whole evaluation": f"{milliseconds:.0f} ms a frame, loading included",
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def scenes_of_both(
    both: Sequence[Results],
    records: Sequence[Record],
    frame_ids: Sequence[str],
    cfg_file: str | None = None,
    settings: Sequence[str] = (),
) -> tuple[dict[str, list[Scene]] | None, str]:
    """Scenes of some frames for each run, read from the data set.

    Returns:
        The scenes by frame, and an empty text; or None and why they cannot be read.
    """
    try:
        scenes = [
            _scenes(results, record, frame_ids, cfg_file, settings)
            for results, record in zip(both, records)
        ]
    except UserError as error:
        return None, str(error)
    own, others = scenes
    return {name: [own[name], others[name]] for name in frame_ids if name in own}, ""


def _scenes(
    results: Results,
    record: Record,
    frame_ids: Sequence[str],
    cfg_file: str | None,
    settings: Sequence[str],
) -> dict[str, Scene]:
    """The scenes of one run, judged with the thresholds of its record."""
    _, dataset = experiment_of(results, cfg_file, settings)
    annotations = detections_of(results, dataset)
    wanted = set(frame_ids)
    chosen = [anno for anno in annotations if str(anno["frame_id"]) in wanted]
    evaluation = Evaluation(record.name, record.data, record.class_names, None, chosen)
    evaluation = with_frames(evaluation, dataset, benchmark=record.benchmark)
    labels = [anno for anno in dataset.lidar_labels() if str(anno["frame_id"]) in wanted]
    options = within_range(evaluation.options, evaluation.point_cloud_range)
    judged = judge_frames(labels, chosen, record.class_names, options, record.thresholds)
    return {
        frame.frame_id: scene_of(
            frame, evaluation.read_points(frame.frame_id), evaluation.point_cloud_range
        )
        for frame in judged.frames
    }
