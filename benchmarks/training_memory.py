"""Claim: every detector trains at its full KITTI configuration on a CPU with batch 2 in under 8 GB.

Run ``python benchmarks/training_memory.py [--data DIR] [yaml ...]`` (default: every yaml of
cfgs/kitti_models on four simulated frames). DIR is a KITTI folder prepared by
``tools/create_data.py kitti CFG --make_planes``. Each yaml runs in its own process, which loads a
batch as training does, with augmentations, and takes four training steps. Printed is the largest
resident memory of that process, including Python and PyTorch (0.4 GiB).
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from pcdet_distill.config import load_config
from pcdet_distill.datasets import build_dataset
from pcdet_distill.datasets.kitti.kitti_infos import create_kitti_infos
from pcdet_distill.datasets.kitti.road_planes import create_road_planes
from pcdet_distill.datasets.synthetic import create_synthetic_kitti
from pcdet_distill.engine.resources.heap import keep_freed_memory
from pcdet_distill.measure import count_parameters
from pcdet_distill.models import build_network, load_data_to_device
from pcdet_distill.models.detectors import DETECTORS

ROOT = Path(__file__).resolve().parents[1]
STEPS = 4


def simulate(folder: Path) -> None:
    """Four training frames with road planes, info files and a database of objects."""
    create_synthetic_kitti(folder, 5, 0, val_frames=1, workers=1, progress=False)
    create_road_planes(folder, show_progress=False)
    create_kitti_infos(folder, 1)


def training_step(config: Path, data: Path, batch_size: int) -> tuple[Callable[[], None], int]:
    """A step of training on one batch, and how many parameters it trains."""
    cfg = load_config(config)
    cfg.DATA_CONFIG.DATA_PATH = str(data)
    dataset = build_dataset(cfg.DATA_CONFIG, cfg.CLASS_NAMES, root_dir=cfg.ROOT_DIR, training=True)
    torch.manual_seed(0)
    model = build_network(cfg.MODEL, len(cfg.CLASS_NAMES), dataset).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    batch = dataset.collate_batch([dataset[index % len(dataset)] for index in range(batch_size)])
    load_data_to_device(batch, torch.device("cpu"))

    def step() -> None:
        optimizer.zero_grad()
        model(dict(batch))[0]["loss"].backward()
        optimizer.step()

    return step, count_parameters(model)


def train(config: Path, data: Path, batch_size: int) -> tuple[int, float]:
    """Parameters of the detector, and the peak memory in GiB of this process that trains it."""
    keep_freed_memory(torch.device("cpu"))
    step, parameters = training_step(config, data, batch_size)
    for _ in range(STEPS):
        step()
    return parameters, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(configs: list[Path], data: Path, batch_size: int) -> None:
    """One line of a table for each yaml, from a process of its own."""
    print(f"| yaml | parameters | peak memory, batch {batch_size} |\n|---|---:|---:|", flush=True)
    for config in configs:
        command = [
            sys.executable,
            __file__,
            str(config),
            "--data",
            str(data),
            "--batch_size",
            str(batch_size),
        ]
        subprocess.run([*command, "--in_this_process"], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    everything = [
        path
        for path in sorted((ROOT / "cfgs" / "kitti_models").glob("*.yaml"))
        if load_config(path).MODEL.NAME in DETECTORS
    ]
    parser.add_argument("configs", nargs="*", type=Path, default=everything)
    parser.add_argument(
        "--data", type=Path, help="a prepared KITTI folder (default: simulated frames)"
    )
    parser.add_argument("--batch_size", type=int, default=2)
    parser.add_argument("--in_this_process", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.in_this_process:
        parameters, gibibytes = train(args.configs[0], args.data, args.batch_size)
        print(
            f"| {args.configs[0].stem} | {parameters / 1e6:.2f} M | {gibibytes:.1f} GiB |",
            flush=True,
        )
    elif args.data is not None:
        measure(args.configs, args.data.resolve(), args.batch_size)
    else:
        with tempfile.TemporaryDirectory() as folder:
            simulate(Path(folder))
            measure(args.configs, Path(folder), args.batch_size)


if __name__ == "__main__":
    main()
