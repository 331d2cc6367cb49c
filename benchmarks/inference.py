"""Claim: reading, checks and voxels of a cloud take a small part of a detector's time on one core.

Run ``OMP_NUM_THREADS=1 python benchmarks/inference.py --cfg_file YAML --ckpt FILE --clouds PATH``.
It prints the time of each stage of a call, from the file to the boxes, as milliseconds and as a
share of the whole. Times are those that the core works for this process, so other programs disturb
them little. Several pairs of yaml and checkpoint become several columns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

from pcdet_distill.datasets.dataset import item_random_state
from pcdet_distill.datasets.readers import CloudSource, open_clouds
from pcdet_distill.errors import exit_on_user_error
from pcdet_distill.inference import Detections, Detector, load_detector
from pcdet_distill.inference.clouds import CloudArray
from pcdet_distill.models import load_data_to_device

Result = TypeVar("Result")
WARM_UP = 3


class StageTimes:
    """Milliseconds of each stage, of every cloud."""

    def __init__(self) -> None:
        self.of_stage: dict[str, list[float]] = {}

    def measure(self, stage: str, run: Callable[[], Result]) -> Result:
        """Run a stage and note its time."""
        start = time.thread_time()
        result = run()
        milliseconds = 1000 * (time.thread_time() - start)
        self.of_stage.setdefault(stage, []).append(milliseconds)
        return result

    def medians(self) -> dict[str, float]:
        """The median of each stage, without the first clouds, which allocate and compile."""
        return {stage: statistics.median(times[WARM_UP:]) for stage, times in self.of_stage.items()}


def run_cloud(detector: Detector, clouds: CloudSource, index: int, times: StageTimes) -> Detections:
    """One cloud through the stages of a call."""
    dataset = detector.dataset
    features = dataset.model_input.features
    cloud = times.measure("reading the file", lambda: clouds.read(index, features))
    raw = times.measure("checks", lambda: dataset.raw_item(CloudArray(cloud), 0))
    random = item_random_state(0, 0, 0)
    item = times.measure("range and voxels", lambda: dataset.prepare_data(raw, random))
    batch = times.measure("batch", lambda: dataset.collate_batch([item]))
    times.measure("batch to tensors", lambda: load_data_to_device(batch, detector.device))
    model = detector.model
    for slot in model.running_order:
        if getattr(model, slot) is not None:
            batch = times.measure(slot, partial(model.run_slot, slot, batch))
    predictions, _ = times.measure("scores and NMS", lambda: model.post_processing(batch))
    return Detections.from_prediction(predictions[0], detector.class_names)


def measure(detector: Detector, path: Path, most: int) -> tuple[dict[str, float], float]:
    """Median milliseconds of each stage, and the mean number of boxes."""
    clouds = open_clouds(path)
    times = StageTimes()
    counts = []
    with torch.inference_mode():
        for index in range(min(most, len(clouds))):
            counts.append(len(run_cloud(detector, clouds, index, times)))
    return times.medians(), statistics.mean(counts)


@exit_on_user_error
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cfg_file", nargs="+", required=True)
    parser.add_argument("--ckpt", nargs="+", required=True)
    parser.add_argument("--clouds", type=Path, required=True, help="a folder of clouds")
    parser.add_argument("--frames", type=int, default=23)
    args = parser.parse_args()
    torch.set_num_threads(1)
    columns = {}
    for cfg_file, ckpt in zip(args.cfg_file, args.ckpt, strict=True):
        detector = load_detector(cfg_file, ckpt, device="cpu", tell=lambda _: None)
        medians, boxes = measure(detector, args.clouds, args.frames)
        columns[f"{Path(cfg_file).stem} ({boxes:.0f} boxes)"] = medians
    print_table(columns)


def print_table(columns: dict[str, dict[str, float]]) -> None:
    """Stages as rows, detectors as columns; each cell is milliseconds and share."""
    stages = dict.fromkeys(stage for medians in columns.values() for stage in medians)
    print("| stage | " + " | ".join(columns) + " |")
    print("|---|" + "---:|" * len(columns))
    for stage in stages:
        cells = []
        for medians in columns.values():
            share = medians.get(stage, 0) / sum(medians.values())
            cells.append(f"{medians.get(stage, 0):.1f} ms, {share:.0%}")
        print(f"| {stage} | " + " | ".join(cells) + " |")
    totals = [f"{sum(medians.values()):.0f} ms" for medians in columns.values()]
    print("| all | " + " | ".join(totals) + " |")


if __name__ == "__main__":
    main()
