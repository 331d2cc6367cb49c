"""One evaluation: frames through the model in eval mode, detections to annotations, AP.

The frames are divided among the processes. Rank 0 gathers the annotations, computes AP and reports.
"""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from ...datasets import DatasetTemplate
from ...errors import DataError
from ...evaluation.result import EvaluationResult
from ...inference import predict_batch
from ...models import load_data_to_device
from ...models.device import synchronize
from ...types import BatchDict
from ..batches import batches_of, interleave, part_of
from ..distributed import World
from ..logging import LOGGER_NAME, make_folder
from .report import Annotation, log_performance, recall_values, write_results

# --infer_time leaves out up to so many batches, for allocation, compilation and autotuning.
WARMUP_BATCHES = 3


@dataclass
class EvalOutcome:
    """The outcome of an evaluation. Only rank 0 has ``result``, ``text``, ``table`` and AP.

    Attributes:
        result: None where the split has no labels.
        text: the table as OpenPCDet prints it.
        ret_dict: recall/roi_t, recall/rcnn_t, and the AP dict.
        det_annos: OpenPCDet's detections, in the order of the dataset.
        table: BEV and 3D AP with their means, compact.
        metrics: the content of metrics.json.
        seconds_per_sample: seconds for each frame, loading included.
        infer_ms_per_sample: milliseconds of the model for each frame; None without --infer_time.
    """

    result: EvaluationResult | None
    text: str
    ret_dict: dict[str, float]
    det_annos: list[Annotation]
    table: str = ""
    metrics: dict[str, object] = field(default_factory=dict)
    seconds_per_sample: float = 0.0
    infer_ms_per_sample: float | None = None


@dataclass
class _Part:
    """What one process collects from its batches.

    Attributes:
        annotations_by_batch: of each batch, the annotations of its frames.
        recall: counts of labelled and found boxes.
        model_seconds: of each batch, seconds of the model and number of frames.
    """

    annotations_by_batch: list[list[Annotation]] = field(default_factory=list)
    recall: Counter[str] = field(default_factory=Counter)
    model_seconds: list[tuple[float, int]] = field(default_factory=list)


def evaluate_model(
    model: nn.Module,
    dataloader: DataLoader,
    *,
    device: torch.device | None = None,
    logger: logging.Logger | None = None,
    epoch_id: str | int = "no_number",
    result_dir: Path | None = None,
    save_to_file: bool = False,
    infer_time: bool = False,
    world: World | None = None,
) -> EvalOutcome:
    """Evaluate ``model`` on all frames of ``dataloader``. Every process must call this function.

    Args:
        model: its mode is restored afterwards.
        dataloader: the same in every process.
        device: that of the model by default.
        logger: receives the report.
        epoch_id: names the evaluation in the report.
        result_dir: receives result.pkl and metrics.json; None writes no file.
        save_to_file: also write the detections in the dataset's own format.
        infer_time: also time the model alone.
        world: the processes that share the frames.
    """
    world = world or World()
    logger = logger or logging.getLogger(LOGGER_NAME)
    device = device or next(model.parameters()).device
    output_path = None
    if result_dir is not None and save_to_file:
        output_path = make_folder(result_dir / "final_result" / "data")
    logger.info(f"*************** EPOCH {epoch_id} EVALUATION *****************")
    was_training = model.training
    model.eval()
    start = time.perf_counter()
    own_part = _run(
        model,
        part_of(dataloader, world.rank, world.size),
        device,
        timed=infer_time,
        output_path=output_path,
        show_bar=world.is_main and sys.stderr.isatty(),
    )
    parts = world.gather(own_part)
    seconds = time.perf_counter() - start
    model.train(was_training)
    outcome = _merge(parts, seconds, infer_time)
    if world.is_main:
        dataset = cast(DatasetTemplate, dataloader.dataset)
        _score_and_report(outcome, dataset, str(epoch_id), result_dir, logger)
    return outcome


def _run(
    model: nn.Module,
    loader: DataLoader,
    device: torch.device,
    *,
    timed: bool,
    output_path: Path | None,
    show_bar: bool,
) -> _Part:
    """All batches of ``loader`` through ``model``."""
    part = _Part()
    dataset = cast(DatasetTemplate, loader.dataset)
    bar = tqdm(
        total=len(loader), desc="eval", leave=False, dynamic_ncols=True, disable=not show_bar
    )
    for batch in batches_of(loader):
        pred_dicts, recall, seconds = _predict(model, batch, device, timed)
        annotations = dataset.generate_prediction_dicts(
            batch, pred_dicts, dataset.class_names, output_path=output_path
        )
        part.annotations_by_batch.append(annotations)
        part.recall.update(on_host(recall))
        part.model_seconds.append((seconds, len(pred_dicts)))
        bar.set_postfix_str(_bar_text(part.recall), refresh=False)
        bar.update()
    bar.close()
    return part


def _predict(
    model: nn.Module, batch: BatchDict, device: torch.device, timed: bool
) -> tuple[list[dict[str, Tensor]], Mapping[str, Tensor | int], float]:
    """Detections, recall counts, and the seconds that the model took for them."""
    if timed:  # the copy of the batch does not count
        load_data_to_device(batch, device)
        synchronize(device)
    start = time.perf_counter()
    pred_dicts, recall = predict_batch(model, batch, device)
    if timed:
        synchronize(device)
    return pred_dicts, recall, time.perf_counter() - start


def on_host(counts: Mapping[str, Tensor | int]) -> dict[str, int]:
    """Counts of a batch as integers, in one transfer. A model of another's may give integers."""
    if not counts:
        return {}
    values = [torch.as_tensor(count) for count in counts.values()]
    return dict(zip(counts, torch.stack(values).tolist()))


def _bar_text(recall: Counter[str]) -> str:
    """``recall_0.3=(12, 34) / 56``: RoIs, then final boxes, that found their labelled box."""
    thresholds = [key.removeprefix("rcnn_") for key in recall if key.startswith("rcnn_")]
    if not thresholds:
        return ""
    lowest = thresholds[0]
    found = (recall[f"roi_{lowest}"], recall[f"rcnn_{lowest}"])
    return f"recall_{lowest}={found} / {recall['gt']}"


def _merge(parts: Sequence[_Part], seconds: float, infer_time: bool) -> EvalOutcome:
    """The parts of all processes as one outcome that is not scored yet."""
    annotations: list[Annotation] = []
    for batch in interleave([part.annotations_by_batch for part in parts]):
        annotations += batch
    recall: Counter[str] = Counter()
    for part in parts:
        recall.update(part.recall)  # unlike +, this keeps the counts that are zero
    return EvalOutcome(
        result=None,
        text="",
        ret_dict=recall_values(recall),
        det_annos=annotations,
        seconds_per_sample=seconds / max(len(annotations), 1),
        infer_ms_per_sample=_infer_ms(parts) if infer_time else None,
    )


def _infer_ms(parts: Sequence[_Part]) -> float:
    """Milliseconds of the model for one frame, without the first batches of each process."""
    total_seconds = 0.0
    total_frames = 0
    for part in parts:
        num_skipped = min(WARMUP_BATCHES, len(part.model_seconds) - 1)
        for seconds, frames in part.model_seconds[num_skipped:]:
            total_seconds += seconds
            total_frames += frames
    return 1000 * total_seconds / max(total_frames, 1)


def _score_and_report(
    outcome: EvalOutcome,
    dataset: DatasetTemplate,
    epoch_id: str,
    result_dir: Path | None,
    logger: logging.Logger,
) -> None:
    """Compute AP, log the report and write the files."""
    recalls = dict(outcome.ret_dict)
    log_performance(logger, epoch_id, outcome.seconds_per_sample, recalls, outcome.det_annos)
    if outcome.infer_ms_per_sample is not None:
        logger.info(
            f"Average inference time: {outcome.infer_ms_per_sample:.2f} ms per frame "
            "(the model alone)"
        )
    _score(outcome, dataset)
    logger.info(outcome.text)
    outcome.metrics = _metrics(outcome, recalls, epoch_id)
    if result_dir is not None:
        write_results(make_folder(result_dir), outcome.det_annos, outcome.metrics)
        logger.info(f"Result is saved to {result_dir}")
    logger.info("****************Evaluation done.*****************")
    if outcome.table:
        logger.info("\n" + outcome.table)


def _score(outcome: EvalOutcome, dataset: DatasetTemplate) -> None:
    """Let the dataset compute AP. A split without labels still gives detections."""
    try:
        result = dataset.evaluate(outcome.det_annos)
    except DataError as error:
        outcome.text = str(error)
        return
    outcome.result = result
    outcome.text = result.text
    outcome.table = result.text_table()
    outcome.ret_dict.update(result.ap_dict)


def _metrics(
    outcome: EvalOutcome, recalls: Mapping[str, float], epoch_id: str
) -> dict[str, object]:
    """The content of metrics.json."""
    result = outcome.result
    primary = result.primary if result is not None else None
    return {
        "epoch": epoch_id,
        "samples": len(outcome.det_annos),
        "seconds_per_sample": outcome.seconds_per_sample,
        "infer_ms_per_sample": outcome.infer_ms_per_sample,
        **recalls,
        "ap": result.metrics() if result is not None else {},
        "primary": primary._asdict() if primary is not None else None,
    }
