"""``report.html`` beside the results of an evaluation, and the data that it is made from.

The figures are logged and stored before this begins. A report that cannot be written is therefore
a warning, and never the end of a run.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ...commands import PROGRAM
from ...config import LidarEvalOptions
from ...datasets import DatasetTemplate
from ...datasets.safe_pickle import load_plain_pickle
from ...errors import UserError
from ...evaluation.result import EvaluationResult
from ...measure import count_gflops, count_parameters, measure_latency
from ...models import load_data_to_device
from ...report.collect import Evaluation, collect, with_kitti_neutral
from ...report.figures import KITTI, benchmark_name
from ...report.record import FILE, Record, read_record, write_record
from ...report.run_page import write_run_page
from ...report.training_log import has_training_log, read_training_log
from ...types import ConfigDict
from ..logging import config_text
from ..run import Run
from .report import Annotation

LATENCY_REPEATS = 3
SEARCHED_PARENTS = 6  # folders above the results in which the training may be
RESULT = "result.pkl"


@dataclass(frozen=True)
class ReportSource:
    """What the report of one evaluation is about.

    Attributes:
        cfg: the config of the model.
        command: what was called.
        checkpoint: of the evaluated model; None where its weights come from the training itself.
        teacher_checkpoint: of a distilled model; None where it is not known.
    """

    cfg: ConfigDict
    command: str
    checkpoint: Path | None = None
    teacher_checkpoint: Path | None = None


def source_of(run: Run) -> ReportSource:
    """What a run evaluates."""
    args = run.args
    is_test = hasattr(args, "eval_all")
    checkpoint = args.ckpt if is_test and not args.eval_all else None
    teacher = None
    if run.cfg.get("DISTILL") and not getattr(args, "teacher", False):
        teacher = _teacher_checkpoint(run.cfg, args.teacher_ckpt)
    return ReportSource(
        cfg=run.cfg,
        command=command_line(sys.argv),
        checkpoint=None if checkpoint is None else Path(checkpoint),
        teacher_checkpoint=teacher,
    )


def command_line(words: Sequence[str]) -> str:
    """What was typed, for a shell: the package as a module has the name of its command."""
    program = words[0]
    if Path(program).name in ("__main__.py", PROGRAM):
        program = PROGRAM
    return shlex.join([program, *words[1:]])


def _teacher_checkpoint(cfg: ConfigDict, chosen: str | None) -> Path | None:
    """The teacher's checkpoint; None where the yaml and the flags name none that exists."""
    from ...distill import find_teacher

    try:
        _, file = find_teacher(cfg, chosen)
    except UserError:
        return None
    return Path(file)


def model_name(run: Run, epoch_id: str) -> str:
    """``pointpillar_4x (tag), epoch 64``."""
    tag = getattr(run.args, "extra_tag", "default")
    where = "" if tag == "default" else f" ({tag})"
    if getattr(run.args, "teacher", False):
        return f"teacher of {run.cfg.TAG}{where}"
    return f"{run.cfg.TAG}{where}, epoch {epoch_id}"


def report_evaluation(
    source: ReportSource,
    dataset: DatasetTemplate,
    result: EvaluationResult | None,
    det_annos: Sequence[Annotation],
    result_dir: Path,
    *,
    model: nn.Module | None = None,
    facts: Mapping[str, str],
    name: str,
    logger: logging.Logger,
) -> Path | None:
    """Write ``report.html`` and its data into ``result_dir``.

    Args:
        det_annos: detections of every frame.
        model: to be measured; None leaves its size and speed out.
        facts: rows of the overview.
        name: of the model.

    Returns:
        The path of the page; None, with a warning in the log, where it cannot be written.
    """
    try:
        record = make_record(source, dataset, result, det_annos, result_dir, name)
        measured = {} if model is None else measured_facts(model, dataset)
        record = replace(record, facts={**facts, **measured})
        write_record(record, result_dir)
        training = read_training_log(result_dir / record.training) if record.training else None
        return write_run_page(record, result_dir, training)
    except (UserError, OSError) as error:
        logger.warning("no report.html: %s", error)
    # The figures of hours of training must not be lost to a fault in their picture.
    except Exception:
        logger.exception("no report.html: this is a fault of pcdet_distill, please report it")
    return None


def make_record(
    source: ReportSource,
    dataset: DatasetTemplate,
    result: EvaluationResult | None,
    det_annos: Sequence[Annotation],
    result_dir: Path,
    name: str,
) -> Record:
    """The record of an evaluation, with its teacher's where that is stored."""
    evaluation = Evaluation(
        name=name,
        data=type(dataset).__name__,
        class_names=list(dataset.class_names),
        result=result,
        det_annos=det_annos,
    )
    teacher_file = None
    if isinstance(dataset, DatasetTemplate):  # others, of OpenPCDet's kind, have figures alone
        teacher_file = find_teacher_results(source, dataset, result_dir)
        evaluation = with_frames(evaluation, dataset, benchmark=benchmark_name(result))
        evaluation = replace(evaluation, teacher_annos=_read_annotations(teacher_file))
    record = collect(evaluation)
    training = find_training(source, result_dir)
    return replace(
        record,
        config=config_text(source.cfg),
        command=source.command,
        training="" if training is None else _relative(training, result_dir),
        teacher=_teacher_record(teacher_file, record),
    )


def with_frames(evaluation: Evaluation, dataset: DatasetTemplate, benchmark: str) -> Evaluation:
    """The evaluation with labels and points, as far as the data set tells them."""
    options = LidarEvalOptions.from_config(dataset.dataset_cfg, evaluation.class_names)
    if benchmark == KITTI:
        options = with_kitti_neutral(options, evaluation.class_names)
    return replace(
        evaluation,
        data=describe_data(dataset),
        labels=_labels(dataset) if evaluation.result is not None else [],
        options=options,
        point_cloud_range=dataset.point_cloud_range.tolist(),
        read_points=PointReader(dataset),
    )


def describe_data(dataset: DatasetTemplate) -> str:
    """``KittiDataset, /data/kitti, split val``."""
    split = dataset.dataset_cfg.get("DATA_SPLIT", {}).get(dataset.mode, dataset.mode)
    return f"{type(dataset).__name__}, {dataset.root_path}, split {split}"


def _labels(dataset: DatasetTemplate) -> Sequence[Mapping[str, Any]]:
    """The labels in LiDAR coordinates; empty for a data set that does not tell them."""
    try:
        return dataset.lidar_labels()
    except UserError:
        return []


class PointReader:
    """Gives the points (N, 3 or more) of a frame by its name; None where they cannot be read."""

    def __init__(self, dataset: DatasetTemplate) -> None:
        self.dataset = dataset
        self.places = {dataset.frame_name(number): number for number in range(dataset.num_frames)}

    def __call__(self, frame_id: str) -> np.ndarray | None:
        try:
            return np.asarray(self.dataset.load_frame(self.places[frame_id])["points"])
        except (UserError, KeyError, OSError):
            return None


def find_training(source: ReportSource, result_dir: Path) -> Path | None:
    """The folder of the training: that of the checkpoint, or one above the results."""
    folders = list(result_dir.resolve().parents[:SEARCHED_PARENTS])
    if source.checkpoint is not None:
        folders = [Path(source.checkpoint).resolve().parent.parent]
    return next((folder for folder in folders if has_training_log(folder)), None)


def _relative(folder: Path, start: Path) -> str:
    """``folder`` as seen from ``start``: the two can be moved together."""
    return os.path.relpath(folder, start.resolve())


def find_teacher_results(
    source: ReportSource, dataset: DatasetTemplate, result_dir: Path
) -> Path | None:
    """The teacher's result.pkl on the same split: beside its checkpoint, or of test --teacher."""
    split = str(dataset.dataset_cfg.get("DATA_SPLIT", {}).get(dataset.mode, dataset.mode))
    found: list[Path] = []
    checkpoint = source.teacher_checkpoint
    if checkpoint is not None:
        epoch = f"epoch_{checkpoint.stem.rpartition('_')[2]}"
        evaluations = checkpoint.resolve().parent.parent / "eval"
        found = [file for file in evaluations.rglob(RESULT) if {epoch, split} <= set(file.parts)]
    if not found and source.cfg.get("DISTILL"):
        for folder in result_dir.resolve().parents[:SEARCHED_PARENTS]:
            found += (folder / "eval" / "teacher" / split).rglob(RESULT)
    is_own = result_dir.resolve() / RESULT
    others = [file for file in found if file != is_own]
    return max(others, key=lambda file: file.stat().st_mtime, default=None)


def _read_annotations(file: Path | None) -> Sequence[Annotation]:
    """The detections of a result.pkl; none where it cannot be read."""
    if file is None:
        return []
    try:
        annotations = load_plain_pickle(file, "evaluate the teacher again")
    except UserError:
        return []
    return annotations if isinstance(annotations, list) else []


def _teacher_record(file: Path | None, student: Record) -> Record | None:
    """The teacher's record, where it is about the same frames by the same rules."""
    if file is None or not (file.parent / FILE).is_file():
        return None
    try:
        record = read_record(file.parent / FILE)
    except UserError:
        return None
    is_same = set(record.errors) == set(student.errors) and record.benchmark == student.benchmark
    return record.as_teacher() if is_same else None


def measured_facts(model: nn.Module, dataset: DatasetTemplate) -> dict[str, str]:
    """Parameters, multiply-adds and latency of one frame; what fails is left out."""
    model = getattr(model, "student", model)
    facts = {"parameters": f"{count_parameters(model):,}"}
    if len(dataset) == 0:
        return facts
    device = next(model.parameters()).device
    try:
        batch = dataset.collate_batch([dataset[0]])
        load_data_to_device(batch, device)
        facts["GFLOPs"] = f"{count_gflops(model, batch):.2f} (1e9 multiply-adds of a frame)"
        milliseconds = measure_latency(model, batch, LATENCY_REPEATS)
        facts["latency"] = f"{milliseconds:.0f} ms a frame with NMS, {_device_words(device)}"
    except (UserError, RuntimeError):
        return facts
    return facts


def _device_words(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{threads} CPU thread{'' if threads == 1 else 's'}"
