"""Costs of a frame, measured here, and the arithmetic of a Waymo-sized data set from them.

    OMP_NUM_THREADS=1 python benchmarks/scale.py [--frames 12]

Made-up frames with as many points and objects as Waymo's go through preparation, training input and
evaluation, and the checkpoint of PointPillars is written and read. Times are those of the
processor, so that other work on the machine matters little. Prints the two tables of docs/scale.md.
"""

from __future__ import annotations

import argparse
import copy
import io
import pickle
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import torch
from easydict import EasyDict

from pcdet_distill.checkpoint import load_checkpoint, save_checkpoint
from pcdet_distill.config import load_config
from pcdet_distill.datasets import DatasetTemplate, build_dataset
from pcdet_distill.datasets.custom.custom_infos import create_custom_infos
from pcdet_distill.evaluation.lidar import LidarEvalOptions, lidar_eval
from pcdet_distill.models import build_network

YAML = "cfgs/custom/pointpillar.yaml"
POINTS = 180_000  # of all five LiDARs of a Waymo frame, about
OBJECTS = 55  # a frame: 12.6 million boxes in 230 thousand frames
DETECTIONS = 150
REPEATS = 40
SIZES_M = {
    "Vehicle": (4.7, 2.1, 1.7),
    "Pedestrian": (0.9, 0.9, 1.7),
    "Cyclist": (1.8, 0.8, 1.7),
}
NAMES = np.array(list(SIZES_M))
SHARES = (0.6, 0.37, 0.03)
HALF_M = 74.0

# The data set and the cluster of the arithmetic.
FRAMES = 160_000
VAL_FRAMES = 40_000
GPUS = 64
MACHINES = 8
EPOCHS = 30
BATCH_PER_GPU = 4
FEW_CORES_PER_GPU = 4
STEP_S = 0.0296  # PointPillars, 4 frames, AMP, one H100 (docs/gpu.md)
EVAL_S = 0.0092  # 1 frame, float32, one H100 (docs/gpu.md)
CACHE_RATIO = 1.04  # a step with a cached teacher (benchmarks/README.md, full width)
TEACHER_RATIO = 1.83  # a step in which the teacher runs
NETWORK_BYTES_S = 10e9 / 8  # ten gigabit Ethernet


def made_up_boxes(random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Names (N,) and boxes (N, 7) that stand on the ground."""
    names = random.choice(NAMES, count, p=SHARES)
    sizes = np.array([SIZES_M[name] for name in names]).reshape(-1, 3)
    places = random.uniform(-HALF_M, HALF_M, (count, 2))
    heading = random.uniform(-np.pi, np.pi, (count, 1))
    return names, np.hstack([places, sizes[:, 2:] / 2, sizes, heading])


def made_up_cloud(random: np.random.Generator, boxes: np.ndarray) -> np.ndarray:
    """(POINTS, 4) points: most on the ground, thinning out with the distance, some in the boxes."""
    in_box = boxes[random.integers(len(boxes), size=POINTS // 10), :3]
    in_box = in_box + random.uniform(-0.3, 0.3, in_box.shape)
    count = POINTS - len(in_box)
    distance_m = 75 * random.beta(1, 3, count)
    angle_rad = random.uniform(-np.pi, np.pi, count)
    height_m = np.abs(random.normal(0, 0.5, count))
    ground = np.column_stack(
        [distance_m * np.cos(angle_rad), distance_m * np.sin(angle_rad), height_m]
    )
    places = np.vstack([ground, in_box])
    return np.hstack([places, random.uniform(0, 1, (POINTS, 1))]).astype(np.float32)


def write_frames(root: Path, frames: int) -> list[np.ndarray]:
    """Frames in OpenPCDet's layout of own data; returns the boxes of each."""
    for folder in ("points", "labels", "ImageSets"):
        (root / folder).mkdir(parents=True)
    names = [f"{number:06d}" for number in range(frames)]
    all_boxes = []
    for number, name in enumerate(names):
        random = np.random.default_rng(number)
        kinds, boxes = made_up_boxes(random, OBJECTS)
        np.save(root / "points" / f"{name}.npy", made_up_cloud(random, boxes))
        lines = [
            " ".join(f"{value:.4f}" for value in box) + f" {kind}\n"
            for kind, box in zip(kinds, boxes)
        ]
        (root / "labels" / f"{name}.txt").write_text("".join(lines))
        all_boxes.append(boxes)
    (root / "ImageSets" / "train.txt").write_text("\n".join(names[:-2]) + "\n")
    (root / "ImageSets" / "val.txt").write_text("\n".join(names[-2:]) + "\n")
    return all_boxes


def cpu_seconds(function: Callable[[], object]) -> float:
    """Processor seconds of a call in this process."""
    begin = time.process_time()
    function()
    return time.process_time() - begin


def folder_bytes(folder: Path, pattern: str) -> int:
    """Bytes of the files of a folder."""
    return sum(path.stat().st_size for path in folder.glob(pattern) if path.is_file())


def measure_preparation(root: Path, frames: int) -> dict[str, float]:
    """Info files and object database."""
    with redirect_stdout(io.StringIO()):
        create_custom_infos(root, show_progress=False)  # compiles
        seconds = cpu_seconds(lambda: create_custom_infos(root, show_progress=False))
    database = folder_bytes(root, "gt_database/*") + folder_bytes(root, "*.points")
    return {
        "preparation_s": seconds / frames,
        "cloud_bytes": folder_bytes(root, "points/*") / frames,
        "database_bytes": database / (frames - 2),
        "info_bytes": folder_bytes(root, "custom_*.pkl") / frames,
    }


def training_data(cfg: EasyDict) -> DatasetTemplate:
    """The training split with augmentation."""
    return build_dataset(
        cfg.DATA_CONFIG, cfg.CLASS_NAMES, root_dir=cfg.ROOT_DIR, training=True, seed=0
    )


def measure_start(cfg: EasyDict, root: Path) -> dict[str, float]:
    """Start-up of a process: reading infos and object list, and the memory that they take.

    The files of the few frames are repeated, so that what does not grow with them is small beside.
    """
    frames = 0
    for name in ("custom_infos_train.pkl", "custom_dbinfos_train.pkl"):
        content = pickle.loads((root / name).read_bytes())
        if isinstance(content, list):
            content = repeated(content)
            frames = len(content)
        else:
            content = {kind: repeated(entries) for kind, entries in content.items()}
        (root / name).write_bytes(pickle.dumps(content))
    tracemalloc.start()
    dataset = training_data(cfg)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    seconds = cpu_seconds(lambda: training_data(cfg))
    assert len(dataset) == frames
    return {"start_s": seconds / frames, "start_bytes": taken / frames}


def repeated(entries: list) -> list:
    """``REPEATS`` copies of each entry, which share nothing."""
    return [copy.deepcopy(entry) for entry in entries for _ in range(REPEATS)]


def measure_input(dataset: DatasetTemplate, frames: int) -> float:
    """Processor seconds of a training frame: reading, augmentation, pillars."""
    for number in range(2):
        dataset[number % len(dataset)]
    seconds = cpu_seconds(lambda: [dataset[number % len(dataset)] for number in range(frames)])
    return seconds / frames


def measure_checkpoint(cfg: EasyDict, dataset: DatasetTemplate, folder: Path) -> dict[str, float]:
    """A checkpoint with Adam's moments: its size, and processor seconds to write and to read."""
    model = build_network(cfg.MODEL, num_class=len(cfg.CLASS_NAMES), dataset=dataset)
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    content = {
        "model_state": model.state_dict(),
        "optimizer_state": optimizer.state_dict(),
        "epoch": 1,
        "it": 1,
    }
    path = folder / "checkpoint.pth"
    write = cpu_seconds(lambda: save_checkpoint(content, path))
    read = cpu_seconds(lambda: load_checkpoint(path))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {
        "checkpoint_bytes": path.stat().st_size,
        "checkpoint_write_s": write,
        "checkpoint_read_s": read,
        "gradient_bytes": 4 * parameters,
    }


def measure_evaluation(frames: int) -> dict[str, float]:
    """AP in LiDAR coordinates of made-up detections, and the bytes of result.pkl."""
    random = np.random.default_rng(0)
    truths = []
    found = []
    for number in range(frames):
        names, boxes = made_up_boxes(random, OBJECTS)
        frame_id = f"{number:06d}"
        truths.append({"frame_id": frame_id, "name": names, "gt_boxes_lidar": boxes})
        wrong_names, wrong = made_up_boxes(random, DETECTIONS - OBJECTS)
        near = boxes + random.normal(0, 0.1, boxes.shape)
        found.append(
            {
                "frame_id": frame_id,
                "name": np.concatenate([names, wrong_names]),
                "boxes_lidar": np.vstack([near, wrong]).astype(np.float32),
                "score": random.uniform(0, 1, DETECTIONS).astype(np.float32),
            }
        )
    options = LidarEvalOptions()
    lidar_eval(truths[:2], found[:2], list(NAMES), options)  # compiles
    seconds = cpu_seconds(lambda: lidar_eval(truths, found, list(NAMES), options))
    return {
        "evaluation_s": seconds / frames,
        "result_bytes": len(pickle.dumps(found)) / frames,
    }


def measure(frames: int) -> dict[str, float]:
    """All costs."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "custom"
        write_frames(root, frames)
        costs = measure_preparation(root, frames)
        cfg = load_config(YAML)
        cfg.DATA_CONFIG.DATA_PATH = str(root)
        dataset = training_data(cfg)
        costs["input_s"] = measure_input(dataset, 2 * frames)
        costs |= measure_checkpoint(cfg, dataset, Path(folder))
        costs |= measure_start(cfg, root)
    return costs | measure_evaluation(500)


# --- The arithmetic -------------------------------------------------------------------------------


def print_measured(costs: dict[str, float]) -> None:
    """The table of what was measured."""
    rows = [
        ("a cloud on the disk", f"{costs['cloud_bytes'] / 1e6:.2f} MB"),
        ("its info, labels included", f"{costs['info_bytes'] / 1e3:.1f} kB"),
        ("its share of the object database", f"{costs['database_bytes'] / 1e3:.0f} kB"),
        ("preparation (infos, database)", f"{1e3 * costs['preparation_s']:.0f} ms"),
        ("a training frame (read, augment, pillars)", f"{1e3 * costs['input_s']:.0f} ms"),
        ("reading its info and objects at start-up", f"{1e3 * costs['start_s']:.2f} ms"),
        ("their memory in a process", f"{costs['start_bytes'] / 1e3:.0f} kB"),
        ("a checkpoint with Adam's moments", f"{costs['checkpoint_bytes'] / 1e6:.0f} MB"),
        ("writing it, checksum included", f"{1e3 * costs['checkpoint_write_s']:.0f} ms"),
        ("reading and checking it", f"{1e3 * costs['checkpoint_read_s']:.0f} ms"),
        ("gradients of a step", f"{costs['gradient_bytes'] / 1e6:.0f} MB"),
        ("AP of a frame", f"{1e3 * costs['evaluation_s']:.2f} ms"),
        ("detections of a frame in result.pkl", f"{costs['result_bytes'] / 1e3:.1f} kB"),
    ]
    print("| a frame of 180,000 points and 55 objects | measured |\n|---|---:|")
    for name, value in rows:
        print(f"| {name} | {value} |")


def print_arithmetic(costs: dict[str, float]) -> None:
    """The table of what follows."""
    all_frames = FRAMES + VAL_FRAMES
    steps = EPOCHS * FRAMES / (GPUS * BATCH_PER_GPU)
    input_cores = costs["input_s"] * BATCH_PER_GPU / (STEP_S * CACHE_RATIO)
    ring_bytes = 2 * costs["gradient_bytes"] * (MACHINES - 1) / MACHINES
    read_rate = costs["cloud_bytes"] * GPUS * BATCH_PER_GPU / (STEP_S * CACHE_RATIO)
    loaded_s = costs["input_s"] * BATCH_PER_GPU / FEW_CORES_PER_GPU
    machine_bytes = costs["start_bytes"] * FRAMES * GPUS / MACHINES
    rows = [
        ("preparation, one core", hours(costs["preparation_s"] * all_frames)),
        ("preparation, 64 cores", hours(costs["preparation_s"] * all_frames / 64)),
        ("clouds on the disk", f"{costs['cloud_bytes'] * all_frames / 1e12:.2f} TB"),
        ("object database", f"{costs['database_bytes'] * FRAMES / 1e9:.0f} GB"),
        ("files of that database", f"{OBJECTS * FRAMES / 1e6:.1f} million"),
        ("info files and list of objects on the disk", gb(costs["info_bytes"] * FRAMES)),
        ("their memory in each process", gb(costs["start_bytes"] * FRAMES)),
        (f"their memory in {GPUS // MACHINES} processes of a machine", gb(machine_bytes)),
        ("reading them at start-up, each process", hours(costs["start_s"] * FRAMES)),
        ("steps of 30 epochs, 256 frames each", f"{steps:,.0f}"),
        ("GPU time of these steps, teacher cached", hours(steps * STEP_S * CACHE_RATIO)),
        ("the same with a teacher that runs", hours(steps * STEP_S * TEACHER_RATIO)),
        ("GPU-hours, teacher cached", f"{steps * STEP_S * CACHE_RATIO * GPUS / 3600:.0f}"),
        ("cores that keep one GPU busy", f"{input_cores:.0f}"),
        (f"the same with {FEW_CORES_PER_GPU} cores a GPU, teacher cached", hours(steps * loaded_s)),
        ("reading clouds at full speed, all GPUs", f"{read_rate / 1e9:.1f} GB/s"),
        ("gradients through each machine, a step", f"{ring_bytes / 1e6:.0f} MB"),
        ("that on 10 Gbit Ethernet", f"{1e3 * ring_bytes / NETWORK_BYTES_S:.0f} ms"),
        ("checkpoints, 30 kept", gb(30 * costs["checkpoint_bytes"])),
        ("detector on 40,000 frames, 64 GPUs", f"{EVAL_S * VAL_FRAMES / GPUS:.0f} s"),
        ("AP of them, one core", f"{costs['evaluation_s'] * VAL_FRAMES:.0f} s"),
        ("result.pkl, in the memory of rank 0", gb(costs["result_bytes"] * VAL_FRAMES)),
    ]
    print("\n| 160,000 + 40,000 frames, 64 GPUs | arithmetic |\n|---|---:|")
    for name, value in rows:
        print(f"| {name} | {value} |")


def hours(seconds: float) -> str:
    """Seconds as a length of time that one can imagine."""
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"


def gb(count: float) -> str:
    """Bytes as gigabytes."""
    return f"{count / 1e9:.1f} GB"


def main() -> None:
    """Measure, and print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=12, help="made-up frames")
    args = parser.parse_args()
    torch.set_num_threads(1)
    costs = measure(args.frames)
    print_measured(costs)
    print_arithmetic(costs)


if __name__ == "__main__":
    main()
