"""Claim: a training step on a CPU is faster when freed memory is kept, and takes more memory.

Run ``python benchmarks/kept_memory.py [yaml ...]`` (default: PointPillar, SECOND and PointRCNN at
their KITTI configuration, a batch of two simulated frames). Each yaml trains in two processes: one
with glibc's defaults, and one that calls ``keep_freed_memory`` as tools/train.py does. Printed are
the CPU seconds of a step, those spent in the system, and the largest resident memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from training_memory import ROOT, simulate, training_step

from pcdet_distill.engine.resources.heap import keep_freed_memory

MODELS = ROOT / "cfgs" / "kitti_models"
DEFAULT = [MODELS / f"{name}.yaml" for name in ("pointpillar", "second", "pointrcnn")]


def train(config: Path, data: Path, steps: int) -> dict[str, float]:
    """Seconds of a step after the first one, and the peak of this process in GiB."""
    step, _ = training_step(config, data, batch_size=2)
    step()
    start = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(steps):
        step()
    end = resource.getrusage(resource.RUSAGE_SELF)
    system, user = (end.ru_stime - start.ru_stime) / steps, (end.ru_utime - start.ru_utime) / steps
    return {"seconds": user + system, "system": system, "gibibytes": end.ru_maxrss / 2**20}


def in_a_process(config: Path, data: Path, steps: int, *options: str) -> dict[str, float]:
    """The result of ``train`` in a process of its own."""
    command = [
        sys.executable,
        __file__,
        str(config),
        "--data",
        str(data),
        "--steps",
        str(steps),
        *options,
    ]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("configs", nargs="*", type=Path, default=DEFAULT)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--keep", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.data is not None:
        if args.keep:
            keep_freed_memory(torch.device("cpu"))
        print(json.dumps(train(args.configs[0], args.data, args.steps)))
        return
    print("| yaml | step | system | memory | kept: step | system | memory | time |")
    print("|---|" + "---:|" * 7)
    with tempfile.TemporaryDirectory() as folder:
        simulate(Path(folder))
        for config in args.configs:
            ways = [
                in_a_process(config, Path(folder), args.steps, *options)
                for options in ([], ["--keep"])
            ]
            cells = [
                f"{way['seconds']:.1f} s | {way['system']:.1f} s | {way['gibibytes']:.1f} GiB"
                for way in ways
            ]
            ratio = ways[1]["seconds"] / ways[0]["seconds"]
            print(f"| {config.stem} | {' | '.join(cells)} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
