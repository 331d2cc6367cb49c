"""Speed of the training input: frames a second and core, by stage, and with a slow disk.

    OMP_NUM_THREADS=1 python benchmarks/input.py [--cfg_file YAML] [--data DIR] [--frames N]

Compares our way (the objects of gt_sampling from one mapped file) with OpenPCDet's (a file for each
object, opened each time it is pasted). Both make the same frames, which is checked. Times are those
of the processor, so that other work on the machine matters little. The last table is of the clock:
a loader of several workers, where each opening of a file, and each read of a part of the mapped one
that was not read before, waits for ``--delay_ms``.
"""

from __future__ import annotations

import argparse
import builtins
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from data_pipeline import milliseconds
from easydict import EasyDict

from pcdet_distill.config import load_config
from pcdet_distill.datasets import DatasetTemplate, FrameLoader, build_dataset
from pcdet_distill.datasets.augmentor import DataBaseSampler
from pcdet_distill.datasets.augmentor.object_database import ObjectInfo, ObjectPoints
from pcdet_distill.datasets.kitti.kitti_infos import create_kitti_infos
from pcdet_distill.datasets.packed_objects import PackedObjects
from pcdet_distill.datasets.synthetic import create_synthetic_kitti

YAML = "cfgs/synthetic/pointpillar_teacher.yaml"
OBJECTS_PER_ITEM = 30
WORKERS = (1, 4, 16)
BATCH_SIZE = 4
AHEAD_BATCHES = 2  # of each worker
READ_AHEAD_BYTES = 2**17  # what Linux reads of a mapped file at once


class FileForEachObject:
    """OpenPCDet's way: every pasted object opens its file."""

    def __init__(self, points: ObjectPoints) -> None:
        self.root = points.root
        self.num_features = points.num_features

    def of(self, info: ObjectInfo) -> np.ndarray:
        """The points of an object."""
        values = np.fromfile(str(self.root / info["path"]), dtype=np.float32)
        return values.reshape(-1, self.num_features)


def sampler_of(dataset: DatasetTemplate) -> DataBaseSampler:
    """The gt_sampling of a training data set."""
    assert dataset.data_augmentor is not None
    for name, augmentor in dataset.data_augmentor.queue:
        if name == "gt_sampling":
            assert isinstance(augmentor, DataBaseSampler)
            return augmentor
    raise SystemExit("the yaml has no gt_sampling")


def build(cfg: EasyDict, way: str) -> DatasetTemplate:
    """The training split, whose objects come from ``files`` or from one ``packed`` file."""
    dataset = build_dataset(
        cfg.DATA_CONFIG, cfg.CLASS_NAMES, root_dir=cfg.ROOT_DIR, training=True, seed=0
    )
    sampler = sampler_of(dataset)
    points = sampler.object_points
    assert isinstance(points, ObjectPoints)
    if way == "files":
        sampler.object_points = FileForEachObject(points)
    elif not points.packed:
        raise SystemExit(f"{dataset.root_path}: has no packed file; run create_data again")
    return dataset


def check_equal(one: DatasetTemplate, other: DatasetTemplate) -> None:
    """Both ways make the same frames."""
    for index in range(min(len(one), 8)):
        first, second = one[index], other[index]
        for key in ("points", "gt_boxes", "voxels", "voxel_coords"):
            if key in first:
                np.testing.assert_array_equal(first[key], second[key])


def compare_database(datasets: dict[str, DatasetTemplate]) -> None:
    """Processor time to read the objects of one item."""
    ways: dict[str, Callable[[], object]] = {}
    for name, dataset in datasets.items():
        sampler = sampler_of(dataset)
        infos = [info for listed in sampler.db_infos.values() for info in listed]
        random = np.random.RandomState(0)

        def read(sampler=sampler, infos=infos, random=random) -> None:
            for index in random.randint(len(infos), size=OBJECTS_PER_ITEM):
                sampler.object_points.of(infos[index]).copy()

        ways[name] = read
    times = milliseconds(ways, 200, clock=time.process_time)
    print_ratio(f"database, {OBJECTS_PER_ITEM} objects", times)


def compare_frames(datasets: dict[str, DatasetTemplate], frames: int) -> None:
    """Processor time of a whole training frame."""
    ways: dict[str, Callable[[], object]] = {}
    for name, dataset in datasets.items():
        numbers = iter(range(10**9))
        ways[name] = lambda dataset=dataset, numbers=numbers: dataset[next(numbers) % len(dataset)]
    times = milliseconds(ways, frames, clock=time.process_time)
    print_ratio("whole training frame", times)


def print_ratio(title: str, times: dict[str, float]) -> None:
    """A row of the table: both ways, and their ratio."""
    cells = [f"{name} {ms:8.3f} ms ({1e3 / ms:7.1f} a second)" for name, ms in times.items()]
    print(f"{title:24s} {'   '.join(cells)}   {times['files'] / times['packed']:.2f} times faster")


class Stages:
    """Processor seconds by stage, measured around the methods of a data set."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function with its time added to a stage."""

        def run(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[name] += time.process_time() - start

        return run

    def watch(self, dataset: DatasetTemplate) -> None:
        """Measure every stage of a data set from now on."""
        dataset.draw_frame = self.timed("load_frame", dataset.draw_frame)  # type: ignore[method-assign]
        assert dataset.data_augmentor is not None
        dataset.data_augmentor.queue = [
            (name, self.timed(name, augmentor))  # type: ignore[misc]
            for name, augmentor in dataset.data_augmentor.queue
        ]
        processor = dataset.data_processor
        processor.forward = self.timed("points and voxels", processor.forward)  # type: ignore[method-assign]


def profile(dataset: DatasetTemplate, frames: int) -> None:
    """Milliseconds of a frame by stage."""
    stages = Stages()
    stages.watch(dataset)
    collate = stages.timed("collate", dataset.collate_batch)
    for first in range(-4 * BATCH_SIZE, frames, BATCH_SIZE):
        if first == 0:  # the batches before it warm the caches
            stages.seconds.clear()
            start = time.process_time()
        numbers = range(first, first + BATCH_SIZE)
        collate([dataset[number % len(dataset)] for number in numbers])
    total = time.process_time() - start
    count = -(-frames // BATCH_SIZE) * BATCH_SIZE
    rest = total - sum(stages.seconds.values())
    rows = sorted(stages.seconds.items(), key=lambda row: -row[1])
    for name, seconds in [*rows, ("the rest", rest), ("in all", total)]:
        print(f"{name:24s} {1e3 * seconds / count:8.3f} ms  {100 * seconds / total:5.1f} %")


@contextmanager
def slow_disk(delay_s: float) -> Iterator[None]:
    """Files whose opening, and parts of a mapped file whose first reading, take longer."""
    read_parts: set[tuple[Path, int]] = set()
    rows = PackedObjects.rows

    def late(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            time.sleep(delay_s)
            return function(*args, **kwargs)

        return run

    def late_rows(packed: PackedObjects, first: int, end: int) -> np.ndarray:
        row_bytes = 4 * packed.header.columns
        last = max(first, end - 1)
        for part in range(
            first * row_bytes // READ_AHEAD_BYTES, last * row_bytes // READ_AHEAD_BYTES + 1
        ):
            if (packed.path, part) not in read_parts:
                read_parts.add((packed.path, part))
                time.sleep(delay_s)
        return rows(packed, first, end)

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(np, "fromfile", late(np.fromfile)))
        stack.enter_context(mock.patch.object(builtins, "open", late(builtins.open)))
        stack.enter_context(mock.patch.object(PackedObjects, "rows", late_rows))
        yield


def loader_speed(dataset: DatasetTemplate, workers: int, frames: int, delay_s: float) -> float:
    """Frames a second by the clock, while all workers run.

    ``make_loader`` starts no more workers than there are cores; this one does. Each worker is some
    batches ahead, so neither the first nor the last of them are measured.
    """
    ahead = AHEAD_BATCHES * workers
    measured = -(-frames // BATCH_SIZE)
    order = [n % len(dataset) for n in range(BATCH_SIZE * (2 * ahead + measured))]
    with slow_disk(delay_s):
        loader = FrameLoader(
            dataset,
            batch_size=BATCH_SIZE,
            sampler=order,
            num_workers=workers,
            prefetch_factor=AHEAD_BATCHES,
            collate_fn=dataset.collate_batch,
            multiprocessing_context="fork",
        )
        batches = iter(loader)
        for _ in range(ahead):
            next(batches)
        start = time.monotonic()
        for _ in range(measured):
            next(batches)
        return BATCH_SIZE * measured / (time.monotonic() - start)


def compare_loaders(datasets: dict[str, DatasetTemplate], frames: int, delay_ms: float) -> None:
    """Frames a second of both ways with several workers."""
    for delay in (0.0, delay_ms):
        for workers in WORKERS:
            speeds = {
                name: loader_speed(dataset, workers, frames, delay / 1e3)
                for name, dataset in datasets.items()
            }
            cells = "   ".join(f"{name} {speed:7.1f}" for name, speed in speeds.items())
            ratio = speeds["packed"] / speeds["files"]
            print(
                f"delay {delay:4.1f} ms, {workers:2d} workers   {cells} frames a second   "
                f"{ratio:.2f} times faster"
            )


def simulated(folder: Path, frames: int) -> Path:
    """A simulated KITTI folder with infos and database."""
    create_synthetic_kitti(str(folder), frames, 0, val_frames=frames // 5, workers=1)
    create_kitti_infos(folder)
    return folder


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cfg_file", default=YAML)
    parser.add_argument("--data", type=Path, help="a KITTI folder; default: simulated frames")
    parser.add_argument("--frames", type=int, default=200, help="frames that are measured")
    parser.add_argument("--delay_ms", type=float, default=5.0)
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    with tempfile.TemporaryDirectory() as folder:
        cfg = load_config(args.cfg_file)
        data = args.data or simulated(Path(folder) / "kitti", 100)
        cfg.DATA_CONFIG.DATA_PATH = str(data)
        datasets = {way: build(cfg, way) for way in ("files", "packed")}
        check_equal(*datasets.values())
        compare_database(datasets)
        compare_frames(datasets, args.frames)
        print("\nby stage, our way:")
        profile(build(cfg, "packed"), args.frames)
        print("\nby stage, OpenPCDet's database:")
        profile(build(cfg, "files"), args.frames)
        print()
        compare_loaders(datasets, args.frames, args.delay_ms)


if __name__ == "__main__":
    main()
