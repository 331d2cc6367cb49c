"""One evaluation: every frame through the model in eval mode, detections to annotations, annotations to AP."""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from ...errors import DataError
from ...evaluation.result import EvaluationResult
from ...models import load_data_to_device
from ..batches import batches_of, in_turn, share_of
from ..distributed import World
from ..logging import LOGGER_NAME, make_folder
from ..resources.device import synchronize
from .report import log_performance, recall_values, write_results

WARMUP_BATCHES = (
    3  # at most so many are left out of --infer_time: allocations, compilation, autotuning
)


@dataclass
class EvalOutcome:
    """What an evaluation found. Processes other than rank 0 have only ``ret_dict`` of recalls and ``det_annos``."""

    result: EvaluationResult | None  # None: the split has no labels
    text: str  # the table as OpenPCDet prints it
    ret_dict: dict[str, float]  # recall/roi_t, recall/rcnn_t and the AP dict
    det_annos: list[dict[str, Any]]  # OpenPCDet's detections, in the order of the dataset
    table: str = ""  # BEV / 3D AP with mAP, compact
    metrics: dict[str, Any] = field(default_factory=dict)  # what metrics.json holds
    seconds_per_sample: float = 0.0
    infer_ms_per_sample: float | None = None


@dataclass
class _Pass:
    """What one process gathers on its way through its batches."""

    annos_by_batch: list[list[dict[str, Any]]] = field(default_factory=list)
    recall: Counter[str] = field(default_factory=Counter)
    model_seconds: list[tuple[float, int]] = field(
        default_factory=list
    )  # seconds, frames; one for each batch


def _predict(
    model: nn.Module, batch: dict[str, Any], device: torch.device, timed: bool
) -> tuple[Any, Any, float]:
    """Detections and recall counts of a batch, and the seconds the model took."""
    load_data_to_device(batch, device)
    if timed:
        synchronize(device)
    start = time.perf_counter()
    with torch.no_grad():
        pred_dicts, recall = model(batch)
    if timed:
        synchronize(device)
    return pred_dicts, recall, time.perf_counter() - start


def _bar_text(recall: Counter[str]) -> str:
    """``recall_0.3=(12, 34) / 56``: RoIs and final boxes that found their ground truth."""
    threshold = next((key[len("rcnn_") :] for key in recall if key.startswith("rcnn_")), None)
    if threshold is None:
        return ""
    return f"recall_{threshold}=({recall[f'roi_{threshold}']}, {recall[f'rcnn_{threshold}']}) / {recall['gt']}"


def _run(
    model: nn.Module,
    loader: DataLoader,
    device: torch.device,
    *,
    timed: bool,
    output_path: Path | None,
    show_bar: bool,
) -> _Pass:
    """All batches of ``loader`` through ``model``."""
    found = _Pass()
    dataset: Any = loader.dataset
    bar = tqdm(
        total=len(loader), desc="eval", leave=False, dynamic_ncols=True, disable=not show_bar
    )
    for batch in batches_of(loader):
        pred_dicts, recall, seconds = _predict(model, batch, device, timed)
        found.annos_by_batch.append(
            dataset.generate_prediction_dicts(
                batch, pred_dicts, dataset.class_names, output_path=output_path
            )
        )
        found.recall.update({key: int(value) for key, value in recall.items()})
        found.model_seconds.append((seconds, len(pred_dicts)))
        bar.set_postfix_str(_bar_text(found.recall), refresh=False)
        bar.update()
    bar.close()
    return found


def _infer_ms(passes: list[_Pass]) -> float:
    """Milliseconds of the model for one frame, without the first batches."""
    steady = [
        entry
        for each in passes
        for entry in each.model_seconds[min(WARMUP_BATCHES, len(each.model_seconds) - 1) :]
    ]
    return (
        1000 * sum(seconds for seconds, _ in steady) / max(sum(frames for _, frames in steady), 1)
    )


def _score(dataset: Any, det_annos: list[dict[str, Any]]) -> tuple[EvaluationResult | None, str]:
    """The dataset's result and its text; for a split without labels None, and the reason as text."""
    try:
        result = dataset.evaluate(det_annos)
    except DataError as error:  # its detections are still wanted
        return None, str(error)
    return result, result.text


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
    """Evaluate ``model`` on all frames of ``dataloader``; with ``result_dir``, write result.pkl and metrics.json there.

    Every process must call it; each takes its share of the batches, rank 0 scores and speaks.
    """
    world = world or World()
    logger = logger or logging.getLogger(LOGGER_NAME)
    device = device or next(model.parameters()).device
    output_path = (
        make_folder(result_dir / "final_result" / "data") if result_dir and save_to_file else None
    )
    logger.info(f"*************** EPOCH {epoch_id} EVALUATION *****************")
    was_training = model.training
    model.eval()
    start = time.perf_counter()
    own = _run(
        model,
        share_of(dataloader, world.rank, world.size),
        device,
        timed=infer_time,
        output_path=output_path,
        show_bar=world.is_main and sys.stderr.isatty(),
    )
    passes = world.gather(own)
    samples = sum(len(batch) for each in passes for batch in each.annos_by_batch)
    seconds = (time.perf_counter() - start) / max(samples, 1)
    model.train(was_training)
    outcome = _outcome(passes, seconds, infer_time)
    if world.is_main:
        _report(outcome, dataloader.dataset, str(epoch_id), result_dir, logger)
    return outcome


def _outcome(passes: list[_Pass], seconds: float, infer_time: bool) -> EvalOutcome:
    """The shares of all processes as one, not yet scored."""
    batches = in_turn([each.annos_by_batch for each in passes])
    recall = sum((each.recall for each in passes), Counter())
    for key in passes[0].recall:  # adding Counters drops the zeros
        recall.setdefault(key, 0)
    return EvalOutcome(
        result=None,
        text="",
        ret_dict=recall_values(recall),
        det_annos=[anno for batch in batches for anno in batch],
        seconds_per_sample=seconds,
        infer_ms_per_sample=_infer_ms(passes) if infer_time else None,
    )


def _report(
    outcome: EvalOutcome,
    dataset: Any,
    epoch_id: str,
    result_dir: Path | None,
    logger: logging.Logger,
) -> None:
    """Score, say and write."""
    log_performance(
        logger, epoch_id, outcome.seconds_per_sample, outcome.ret_dict, outcome.det_annos
    )
    if outcome.infer_ms_per_sample is not None:
        logger.info(
            f"Average inference time: {outcome.infer_ms_per_sample:.2f} ms per frame (the model alone)"
        )
    recalls = dict(outcome.ret_dict)
    outcome.result, outcome.text = _score(dataset, outcome.det_annos)
    ap: Mapping[str, object] = {}
    primary = None
    if outcome.result is not None:
        outcome.ret_dict.update(outcome.result.ap_dict)
        outcome.table = outcome.result.text_table()
        ap = outcome.result.metrics()
        primary = outcome.result.primary
    logger.info(outcome.text)
    outcome.metrics = {
        "epoch": epoch_id,
        "samples": len(outcome.det_annos),
        "seconds_per_sample": outcome.seconds_per_sample,
        "infer_ms_per_sample": outcome.infer_ms_per_sample,
        **recalls,
        "ap": ap,
        "primary": None if primary is None else primary._asdict(),
    }
    if result_dir is not None:
        write_results(make_folder(result_dir), outcome.det_annos, outcome.metrics)
        logger.info(f"Result is saved to {result_dir}")
    logger.info("****************Evaluation done.*****************")
    if outcome.table:
        logger.info("\n" + outcome.table)
