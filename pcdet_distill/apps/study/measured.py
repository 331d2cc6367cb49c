"""What the students of a study cost when they detect: parameters, GFLOPs and latency, measured once and kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ...config import load_config
from ...datasets import build_dataset
from ...demo import load_detector
from ...engine.resources.device import choose_device
from ...measure import count_gflops, count_parameters, measure_latencies
from ...models import load_data_to_device
from .plan import Run, StudyPlan
from .results import FINISHED, Outcome, Records, read_json, write_json


def measure_rows(
    plan: StudyPlan, records: Records, outcomes: Mapping[str, Outcome], *, latency: bool
) -> dict[str, dict[str, float]]:
    """Parameters and GFLOPs of every row with a finished run, ``[row]``; with ``latency`` also the time of a frame.

    Latency is for when nothing else runs: all rows take turns on the first frame of the evaluation, with one thread.
    """
    path = records.folder / "measured.json"
    known: dict[str, dict[str, float]] = read_json(path) if path.exists() else {}
    firsts: dict[str, Run] = {}
    for outcome in outcomes.values():
        if outcome.status == FINISHED and (plan.root / outcome.run.checkpoint).exists():
            firsts.setdefault(outcome.run.row.name, outcome.run)
    wanted = ("parameters", "gflops", *(("latency_ms",) if latency else ()))
    if all(key in known.get(row, {}) for row in firsts for key in wanted):
        return known
    torch.set_num_threads(1)
    device = choose_device(plan.options.device)
    loaded = {row: _load(plan, run, device) for row, run in firsts.items()}
    for row, (model, batch) in loaded.items():
        known[row] = {
            **known.get(row, {}),
            "parameters": count_parameters(model),
            "gflops": count_gflops(model, batch),
        }
    if latency and loaded:
        models, batches = zip(*loaded.values())
        for row, milliseconds in zip(loaded, measure_latencies(models, batches)):
            known[row]["latency_ms"] = milliseconds
    write_json(path, known)
    return known


def _load(plan: StudyPlan, run: Run, device: torch.device) -> tuple[Any, dict[str, Any]]:
    """The trained detector of a run and the first frame of its last split."""
    command = plan.train_command(run)
    pairs = [*command[command.index("--set") + 1 :]]
    split = plan.spec.evaluate[-1]
    pairs += [
        "DATA_CONFIG.DATA_SPLIT.test",
        split,
        "DATA_CONFIG.INFO_PATH.test",
        f"kitti_infos_{split}.pkl",
    ]
    cfg = load_config(plan.root / run.row.config, pairs)
    dataset = build_dataset(cfg.DATA_CONFIG, cfg.CLASS_NAMES, root_dir=plan.root, training=False)
    model = load_detector(cfg, dataset, plan.root / run.checkpoint, device)
    batch = dataset.collate_batch([dataset[0]])
    load_data_to_device(batch, device)
    return model, batch
