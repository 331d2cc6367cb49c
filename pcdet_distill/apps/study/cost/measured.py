"""What the detectors of a study cost at test time: parameters, GFLOPs and latency."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

import torch
from torch import nn

from ....datasets import build_dataset
from ....inference import load_model
from ....measure import count_gflops, count_parameters, measure_latencies
from ....models import load_data_to_device
from ....models.device import choose_device
from ....types import BatchDict
from ...tools import read_experiment
from ..plan import Run, StudyPlan
from ..records import Records, read_json, write_json
from ..survey import FINISHED, Outcome


class Measured(TypedDict, total=False):
    """What one detector costs; a key is missing while it has not been measured."""

    parameters: int
    gflops: float
    latency_ms: float


def measure_rows(
    plan: StudyPlan, records: Records, outcomes: Mapping[str, Outcome], *, latency: bool
) -> dict[str, Measured]:
    """Cost of every row with a finished run; measured once and kept in measured.json.

    Args:
        latency: also measure latency. Only meaningful while nothing else runs: all rows take turns
            on the first frame of the last split, with one CPU thread or on the GPU.
    """
    path = records.folder / "measured.json"
    known: dict[str, Measured] = read_json(path) if path.exists() else {}
    runs = _first_finished_runs(plan, outcomes)
    wanted = {"parameters", "gflops"} | ({"latency_ms"} if latency else set())
    if all(wanted <= known.get(row, {}).keys() for row in runs):
        return known
    torch.set_num_threads(1)
    device = choose_device(plan.options.device)
    models = {}
    batches = {}
    for row, run in runs.items():
        models[row], batches[row] = _load(plan, run, device)
        measured = known.setdefault(row, {})
        measured["parameters"] = count_parameters(models[row])
        measured["gflops"] = count_gflops(models[row], batches[row])
    if latency and models:
        latencies = measure_latencies(list(models.values()), list(batches.values()))
        for row, latency_ms in zip(models, latencies):
            known[row]["latency_ms"] = latency_ms
    write_json(path, known)
    return known


def _first_finished_runs(plan: StudyPlan, outcomes: Mapping[str, Outcome]) -> dict[str, Run]:
    """One finished run of each row, with its checkpoint still there."""
    runs: dict[str, Run] = {}
    for outcome in outcomes.values():
        run = outcome.run
        if outcome.status == FINISHED and (plan.root / run.checkpoint).exists():
            runs.setdefault(run.row.name, run)
    return runs


def _load(plan: StudyPlan, run: Run, device: torch.device) -> tuple[nn.Module, BatchDict]:
    """The trained detector of a run, and the first frame of the last split."""
    _, *settings = plan.settings(run, plan.spec.evaluate[-1])
    cfg = read_experiment(run.row.config, plan.root, settings)
    dataset = build_dataset(cfg.DATA_CONFIG, cfg.CLASS_NAMES, root_dir=plan.root, training=False)
    model = load_model(cfg, dataset, plan.root / run.checkpoint, device)
    batch = dataset.collate_batch([dataset[0]])
    load_data_to_device(batch, device)
    return model, batch
