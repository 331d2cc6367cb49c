"""Claim: detect.py, with numpy and onnxruntime alone, is not slower than the checkpoint in torch.

Run ``OMP_NUM_THREADS=1 python benchmarks/runtime.py --cfg_file YAML --ckpt FILE --clouds PATH``.
It exports the detector, runs both over the clouds in turn, checks that the boxes are the same, and
prints the milliseconds of each stage. Times are those that the core works for this process, so
other programs disturb them little.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from pcdet_distill.datasets.readers import open_clouds
from pcdet_distill.errors import exit_on_user_error
from pcdet_distill.export.exporter import export_detector, model_bytes
from pcdet_distill.export.folder import write_runtime_folder
from pcdet_distill.inference import Detector, load_detector
from pcdet_distill.models import load_data_to_device

WARM_UP = 3
STAGES = ("pillars", "network", "score threshold and NMS")


class StageTimes:
    """Milliseconds of each stage, of every cloud."""

    def __init__(self) -> None:
        self.of_stage: dict[str, list[float]] = {stage: [] for stage in STAGES}

    def measure(self, stage: str, run: Callable[[], Any]) -> Any:
        """Run a stage and note its time."""
        start = time.thread_time()
        result = run()
        self.of_stage[stage].append(1000 * (time.thread_time() - start))
        return result

    def median(self, stage: str) -> float:
        """The median, without the first clouds, which allocate and compile."""
        return statistics.median(self.of_stage[stage][WARM_UP:])


def run_torch(detector: Detector, points: np.ndarray, times: StageTimes) -> tuple[np.ndarray, Any]:
    """Boxes and names of one cloud by the checkpoint."""

    def pillars() -> Any:
        batch = detector.batch(points)
        load_data_to_device(batch, detector.device)
        return batch

    batch = times.measure(STAGES[0], pillars)
    with torch.no_grad():
        batch = times.measure(STAGES[1], lambda: detector.model.run_modules(batch))
        frames, _ = times.measure(STAGES[2], lambda: detector.model.post_processing(batch))
    scores = frames[0]["pred_scores"].numpy()
    order = np.argsort(-scores, kind="stable")
    labels = frames[0]["pred_labels"].numpy()[order]
    names = [detector.class_names[label - 1] for label in labels]
    return frames[0]["pred_boxes"].numpy()[order], names


def run_program(runtime: Any, points: np.ndarray, times: StageTimes) -> tuple[np.ndarray, Any]:
    """Boxes and names of one cloud by detect.py."""
    inputs = times.measure(STAGES[0], lambda: runtime.voxelise(points))
    outputs = times.measure(STAGES[1], lambda: runtime.run(inputs))
    boxes, _, names = times.measure(STAGES[2], lambda: runtime.select(outputs))
    return boxes, names


def load_program(folder: Path) -> ModuleType:
    """detect.py of an exported folder."""
    spec = importlib.util.spec_from_file_location("detect", folder / "detect.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@exit_on_user_error
def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cfg_file", required=True)
    parser.add_argument("--ckpt", required=True, type=Path)
    parser.add_argument("--clouds", required=True, type=Path)
    parser.add_argument("--count", type=int, default=40)
    args = parser.parse_args()
    detector = load_detector(args.cfg_file, args.ckpt, device="cpu")
    in_torch, in_program = StageTimes(), StageTimes()
    with tempfile.TemporaryDirectory() as name:
        export = export_detector(detector, args.ckpt)
        write_runtime_folder(name, model_bytes(export.model), export.config)
        runtime = load_program(Path(name)).Detector(name, threads=1)
    clouds = open_clouds(args.clouds)
    num_boxes = 0
    for index in range(min(len(clouds), args.count)):
        points = clouds.read(index, runtime.features).select(runtime.features, "")
        expected, expected_names = run_torch(detector, points, in_torch)
        boxes, names = run_program(runtime, points, in_program)
        assert names == expected_names, f"cloud {index}: other boxes"
        np.testing.assert_allclose(boxes, expected, atol=1e-3)
        num_boxes += len(boxes)
    print(f"the same {num_boxes} boxes in {index + 1} clouds; milliseconds of one core:")
    print(f"{'':<26}{'checkpoint':>12}{'detect.py':>12}")
    for stage in STAGES:
        print(f"{stage:<26}{in_torch.median(stage):>12.1f}{in_program.median(stage):>12.1f}")
    totals = [sum(times.median(stage) for stage in STAGES) for times in (in_torch, in_program)]
    print(f"{'together':<26}{totals[0]:>12.1f}{totals[1]:>12.1f}")


if __name__ == "__main__":
    main()
