"""Claim: on CUDA every detector is as fast as OpenPCDet's own kernels, in the same memory.

    python benchmarks/cuda.py --page docs/gpu.md      # on a GPU machine: the whole table
    python benchmarks/cuda.py --reference             # and against OpenPCDet's CUDA build
    python benchmarks/cuda.py --device cpu --tiny     # what the tests run

For every detector, teachers and students: the time of one frame in eval mode, as it is and with its
dense part compiled; the time and the peak memory of a training step; in float32 with and without
TF32, bfloat16 and float16. Then sparse convolutions without spconv, where it is installed, what
distillation adds to a step, the graph loss against its published formulation, and the frames a
second of whole trainings, loading included. With ``--reference`` OpenPCDet runs in turns with ours,
with the same yaml, weights and batches, and the targets are printed beside the ratios. The batches
are simulated KITTI frames.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from types import ModuleType
from typing import Any

if __name__ == "__main__":
    # As the first entry the folder of this file would hide the packages of the same names, and
    # this file NVIDIA's package cuda.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
elif __name__ == "cuda":
    # PyTorch asks for NVIDIA's package, and another benchmark has put its folder first.
    raise ImportError("this is no part of NVIDIA's package cuda")

import torch

from benchmarks.gpu.cases import (
    CASES,
    RECIPES,
    TINY_CASES,
    TINY_RECIPES,
    Bench,
    Case,
    load_case_config,
    simulate_kitti,
    without_spconv,
)
from benchmarks.gpu.page import POINT_PILLARS_MS, cell, ratio_table, replace_section, section
from benchmarks.gpu.precisions import FLOAT32, PRECISIONS, Precision
from benchmarks.gpu.reference import ReferenceBench, openpcdet
from benchmarks.gpu.timing import Call, Measured, median_times, peak_memory_mb, synchronize
from benchmarks.graph_loss import in_own_process
from pcdet_distill.engine.build import build_dataloader
from pcdet_distill.models import load_data_to_device
from pcdet_distill.ops.accelerated import spconv_adapter

GRAPH_LOSS_REPEATS = 3
TRAINING_WARM_UP = 3  # batches of a whole training that are not timed


class Run:
    """One run of the benchmark.

    Args:
        args: of the command line.
        folder: for simulated frames and fresh teachers.
    """

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.device = torch.device(args.device)
        on_cpu = self.device.type == "cpu"
        # A CPU without half precision computes float16 twenty times slower than float32.
        self.precisions = [each for each in PRECISIONS if not on_cpu or each.name != "float16"]
        self.repeats: int = args.repeats
        self.batch_size: int = args.batch_size
        self.workers: int = args.workers
        self.folder = folder
        self.data: Path = args.data or folder / "kitti"
        self.library: ModuleType | None = openpcdet() if args.reference else None
        if args.reference and self.library is None:
            raise SystemExit("error: --reference: OpenPCDet (the package pcdet) is not installed")
        if args.data is None:
            simulate_kitti(self.data, frames=2 * self.batch_size)

    def detector(self, case: Case) -> dict[str, Any]:
        """The row of one detector."""
        cfg = load_case_config(case.yaml, self.data)
        ours = Bench(cfg, self.device, self.batch_size, self.folder)
        benches = {"ours": ours}
        if self.library is not None and not case.student_of:
            benches["theirs"] = ReferenceBench(ours, self.library)
        row: dict[str, Any] = {"name": case.name, "two_stages": case.two_stages}
        row |= {side: {"evaluation": {}, "training": {}, "memory": {}} for side in benches}
        row["compiled"] = {"evaluation": {}}
        for precision in self.precisions:
            self._measure(benches, precision, row)
        # Last: what is recorded keeps memory, which would count as that of a training step.
        # A CPU would compile for minutes, and gain what nobody asks here.
        if self.device.type != "cpu" and ours.compiled is not None:
            for precision in self.precisions:
                calls = {"compiled": ours.evaluation(precision, ours.compiled)}
                times = median_times(calls, self.device, self.repeats)
                row["compiled"]["evaluation"][precision.name] = times["compiled"]
        return row

    def _measure(
        self, benches: dict[str, Bench], precision: Precision, row: dict[str, Any]
    ) -> None:
        """Add the columns of one precision to a row."""
        evaluations = {side: bench.evaluation(precision) for side, bench in benches.items()}
        for side, value in median_times(evaluations, self.device, self.repeats).items():
            row[side]["evaluation"][precision.name] = value
        steps = {side: bench.training_step(precision) for side, bench in benches.items()}
        for side, value in median_times(steps, self.device, self.repeats).items():
            row[side]["training"][precision.name] = value
            row[side]["memory"][precision.name] = peak_memory_mb(steps[side], self.device)

    def without_spconv(self, case: Case) -> dict[str, Any] | None:
        """Times of our sparse convolutions over those with spconv; None without such layers."""
        cfg = load_case_config(case.yaml, self.data)
        bench = Bench(cfg, self.device, self.batch_size, self.folder)
        if not bench.has_sparse_convolutions:
            return None
        row: dict[str, Any] = {"name": case.name}
        evaluation = bench.evaluation(FLOAT32)
        row["evaluation"] = self._ratio_without_spconv(evaluation)
        step = bench.training_step(FLOAT32)
        row["training"] = self._ratio_without_spconv(step)
        return row

    def _ratio_without_spconv(self, call: Call) -> Measured:
        calls = {"with": call, "without": without_spconv(call)}
        times = median_times(calls, self.device, self.repeats)
        return ratio_of(times["without"], times["with"])

    def distilled(self, yaml: str) -> dict[str, Any]:
        """A distilled step over a step of its student alone."""
        cfg = load_case_config(yaml, self.data)
        distilled = Bench(cfg, self.device, self.batch_size, self.folder)
        plain_cfg = load_case_config(yaml, self.data)
        plain_cfg.pop("DISTILL")
        plain = Bench(plain_cfg, self.device, self.batch_size, self.folder)
        steps = {
            "distilled": distilled.training_step(FLOAT32),
            "plain": plain.training_step(FLOAT32),
        }
        times = median_times(steps, self.device, self.repeats)
        return {
            "name": Path(yaml).stem,
            "ratio": ratio_of(times["distilled"], times["plain"]),
            "against": "a step of the student alone",
        }

    def graph_loss(self, nodes: int, queries: int, neighbours: int) -> dict[str, Any]:
        """The time of the graph loss over that of its published formulation, both ways in turns."""
        arguments = argparse.Namespace(
            queries=queries, neighbours=neighbours, device=self.device.type
        )
        taken: dict[str, list[float]] = {"ours": [], "published": []}
        for _ in range(GRAPH_LOSS_REPEATS):
            for way, seconds in taken.items():
                seconds.append(in_own_process(way, True, arguments, nodes)["wall_s"])
        return {
            "name": f"graph loss, {nodes} nodes, {queries} queries, {neighbours} neighbours",
            "ratio": min(taken["ours"]) / min(taken["published"]),
            "against": "the published formulation",
        }

    def throughput(self, case: Case, batch_size: int, batches: int) -> dict[str, Any]:
        """Frames a second of a whole training, and of its steps on one batch."""
        cfg = load_case_config(case.yaml, self.data)
        bench = Bench(cfg, self.device, batch_size, self.folder)
        step = bench.training_step(FLOAT32)
        step_ms = median_times({"step": step}, self.device, self.repeats)["step"]
        _, loader, _ = build_dataloader(
            cfg.DATA_CONFIG,
            cfg.CLASS_NAMES,
            batch_size,
            root_dir=cfg.ROOT_DIR,
            workers=self.workers,
            seed=0,
            training=True,
        )
        # A small data set is gone through again and again.
        frames = cycle(loader)
        start = time.perf_counter()
        for number, batch in enumerate(islice(frames, TRAINING_WARM_UP + batches)):
            if number == TRAINING_WARM_UP:
                synchronize(self.device)
                start = time.perf_counter()
            load_data_to_device(batch, self.device)
            bench.training_batch = batch
            step()
        synchronize(self.device)
        seconds = time.perf_counter() - start
        return {
            "name": case.name,
            "batch_size": batch_size,
            "workers": self.workers,
            "frames_per_s": batches * batch_size / seconds,
            "steps_alone": 1e3 * batch_size / step_ms if isinstance(step_ms, float) else step_ms,
        }


def ratio_of(value: Measured, other: Measured) -> Measured:
    """Their ratio; the reason of a failure where one of them has none."""
    for measured in (value, other):
        if not isinstance(measured, float):
            return measured
    assert isinstance(value, float) and isinstance(other, float)
    return value / other


def run_all(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All results; each row is printed when it is there."""
    run = Run(args, folder)
    cases = chosen_cases(args)
    results: dict[str, Any] = {
        "device": device_name(run.device),
        "versions": f"torch {torch.__version__}",
        "date": datetime.date.today().isoformat(),
        "batch_size": run.batch_size,
        "detectors": [],
        "without_spconv": None,
        "distilled": [],
        "throughput": [],
    }
    for case in cases:
        note(results["detectors"], run.detector(case))
    if run.device.type == "cuda" and spconv_adapter.installed(spconv_adapter.SPCONV) is not None:
        results["without_spconv"] = []
        for case in cases:
            note(results["without_spconv"], run.without_spconv(case))
    for yaml in TINY_RECIPES if args.tiny else RECIPES:
        note(results["distilled"], run.distilled(yaml))
    nodes, queries, neighbours = (500, 100, 16) if args.tiny else (24000, 6000, 128)
    note(results["distilled"], run.graph_loss(nodes, queries, neighbours))
    for case in cases:
        if case.student_of == "PointPillars" or case.name == "PointPillars":
            batch_size = 1 if args.tiny else 16
            note(results["throughput"], run.throughput(case, batch_size, 2 if args.tiny else 50))
    return results


def note(rows: list[dict[str, Any]], row: dict[str, Any] | None) -> None:
    """Add a row, print it, and free what it needed. None is no row."""
    if row is not None:
        rows.append(row)
        print(json.dumps(row), flush=True)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def chosen_cases(args: argparse.Namespace) -> list[Case]:
    """The cases whose names begin with one of ``--detectors``, or all."""
    cases = TINY_CASES if args.tiny else CASES
    if not args.detectors:
        return list(cases)
    chosen = [case for case in cases if case.name.startswith(tuple(args.detectors))]
    if not chosen:
        names = ", ".join(f"'{case.name}'" for case in cases)
        raise SystemExit(f"error: --detectors: none of them is one of {names}")
    return chosen


def device_name(device: torch.device) -> str:
    """The name of the GPU, or that there is none."""
    if device.type == "cuda":
        return f"One {torch.cuda.get_device_name(device)}"
    return "A CPU with one thread" if torch.get_num_threads() == 1 else "A CPU"


def point_pillars_verdict(results: dict[str, Any]) -> str:
    """Whether PointPillars meets the target of one frame."""
    for row in results["detectors"]:
        if row["name"] == "PointPillars":
            plain = row["ours"]["evaluation"][FLOAT32.name]
            compiled = row["compiled"]["evaluation"].get(FLOAT32.name)
            taken = [ms for ms in (plain, compiled) if isinstance(ms, float)]
            met = bool(taken) and min(taken) < POINT_PILLARS_MS
            verdict = "met" if met else "not met"
            return (
                f"PointPillars, one frame in float32: {cell(plain)} ms, compiled {cell(compiled)} "
                f"ms, target {POINT_PILLARS_MS} ms: {verdict}"
            )
    return "PointPillars was not measured"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, and write the page and the JSON where they are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try the script")
    parser.add_argument("--tiny", action="store_true", help="small detectors and few repeats")
    parser.add_argument("--reference", action="store_true", help="run OpenPCDet in turns with ours")
    parser.add_argument("--detectors", nargs="+", help="beginnings of the rows to measure")
    parser.add_argument("--data", type=Path, help="a prepared KITTI folder; default: simulated")
    parser.add_argument("--batch_size", type=int, default=4, help="frames of a training step")
    parser.add_argument("--repeats", type=int, default=20, help="timed calls of each kind")
    parser.add_argument("--workers", type=int, default=8, help="of the loaders of whole trainings")
    parser.add_argument("--page", type=Path, help="page whose measured section is replaced")
    parser.add_argument("--json", type=Path, help="file for all figures")
    args = parser.parse_args(argv)
    if args.tiny:
        args.batch_size, args.repeats, args.workers = 1, 1, 0
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit("error: --device cuda: PyTorch finds no CUDA device here")
    with tempfile.TemporaryDirectory() as folder:
        results = run_all(args, Path(folder))
    print(ratio_table(results["detectors"]))
    print(point_pillars_verdict(results))
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")
    if args.page:
        replace_section(args.page, section(results))


if __name__ == "__main__":
    main()
