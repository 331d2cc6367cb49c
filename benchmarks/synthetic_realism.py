"""How close the simulated frames come to real KITTI frames, and what they cost.

    python benchmarks/synthetic_realism.py --real data/kitti --frames 200 --scenes hard

Prints one row for each statistic: mean and range of the real frames, mean and 5-95 % range of the
simulated ones, their ratio, and whether the simulated mean lies inside the range of the real
frames. ``--real`` is a KITTI folder, its training/velodyne, or any folder of .bin files; full turns
are cut to the view of camera 2, as the simulated frames are. Without it only the simulated column
is printed.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from pcdet_distill.datasets.synthetic import SceneOptions, read_scenes
from pcdet_distill.datasets.synthetic.annotator import annotate
from pcdet_distill.datasets.synthetic.labels import frame_labels
from pcdet_distill.datasets.synthetic.png import png_bytes, sketch
from pcdet_distill.datasets.synthetic.sensors.camera import Camera
from pcdet_distill.datasets.synthetic.streams import Streams
from pcdet_distill.datasets.synthetic.writer import simulate_frame
from pcdet_distill.errors import DataError, exit_on_user_error

RANGES_M = (0, 10, 20, 30, 40, 60, 200)
HEIGHTS_M = (-9.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 9.0)
PILLAR_M, MAX_POINTS = 0.16, 32


def statistics(points: np.ndarray) -> dict[str, float]:
    """What is compared, from one cloud ``(N, 4)``; pillars are PointPillars' on KITTI."""
    distance = np.hypot(points[:, 0], points[:, 1])
    x, y, z = points[:, 0], points[:, 1], points[:, 2]
    inside = points[(x >= 0) & (x < 69.12) & (np.abs(y) < 39.68) & (z >= -3) & (z < 1)]
    cells = np.floor((inside[:, :2] + [0.0, 39.68]) / PILLAR_M).astype(np.int64)
    _, counts = np.unique(cells[:, 0] * 1000 + cells[:, 1], return_counts=True)
    row: dict[str, float] = {
        "points": len(points),
        "pillars": len(counts),
        "points per pillar": counts.mean(),
        "pillars with one point": (counts == 1).mean(),
        f"pillars with {MAX_POINTS}+ points": (counts >= MAX_POINTS).mean(),
    }
    for low, high, number in zip(RANGES_M, RANGES_M[1:], np.histogram(distance, RANGES_M)[0]):
        row[f"points at {low}-{high} m" if high < 200 else f"points at {low}+ m"] = int(number)
    for bottom, top, number in zip(HEIGHTS_M, HEIGHTS_M[1:], np.histogram(z, HEIGHTS_M)[0]):
        row[f"height share {_interval(bottom, top)}"] = number / len(points)
    row["intensity"] = points[:, 3].mean()
    row["intensity zero"] = (points[:, 3] < 0.005).mean()
    return row


def _interval(low: float, high: float) -> str:
    if low < -5:
        return f"below {high} m"
    return f"above {low} m" if high > 5 else f"{low}..{high} m"


def real_clouds(folder: Path) -> list[np.ndarray]:
    """Every .bin file of ``folder``/training/velodyne, or ``folder``, cut to the camera's view."""
    inner = folder / "training" / "velodyne"
    files = sorted((inner if inner.is_dir() else folder).glob("*.bin"))
    if not files:
        raise DataError(
            f"{folder}: no .bin files there or in training/velodyne, expected real KITTI frames"
        )
    clouds = [np.fromfile(file, dtype=np.float32).reshape(-1, 4) for file in files]
    return [
        cloud if (cloud[:, 0] > 0).all() else cloud[Camera.standard().sees(cloud[:, :3])]
        for cloud in clouds
    ]


def simulated_clouds(
    frames: int, seed: int, scenes: SceneOptions
) -> tuple[list[np.ndarray], float]:
    """Clouds of simulated frames, and the CPU time of one in ms, with its labels and picture."""
    camera, clouds = Camera.standard(), []
    simulate_frame(seed, 0, scenes=scenes)  # compiles
    start = time.process_time()
    for frame in range(frames):
        scene, sweep = simulate_frame(seed, frame, scenes=scenes)
        labels = frame_labels(scene, sweep, camera)
        annotation = annotate(labels, scenes.labels, Streams(seed, frame))
        png_bytes(sketch([label.line() for label in annotation.labels]))
        clouds.append(sweep.points)
    return clouds, (time.process_time() - start) / frames * 1000


def table(real: list[np.ndarray], simulated: list[np.ndarray]) -> str:
    """A markdown table of all statistics."""
    sim_rows = [statistics(cloud) for cloud in simulated]
    real_rows = [statistics(cloud) for cloud in real]
    lines = [
        "| statistic | real: mean (min .. max) | simulated: mean (5 % .. 95 %) | ratio "
        "| mean inside the real range |",
        "|---|---|---|---|---|",
    ]
    for name in sim_rows[0]:
        sim = np.array([row[name] for row in sim_rows], dtype=float)
        low, high = np.percentile(sim, [5, 95])
        cell = f"{_number(sim.mean())} ({_number(low)} .. {_number(high)})"
        if not real:
            lines.append(f"| {name} | | {cell} | | |")
            continue
        true = np.array([row[name] for row in real_rows], dtype=float)
        within = "yes" if true.min() <= sim.mean() <= true.max() else "no"
        real_cell = f"{_number(true.mean())} ({_number(true.min())} .. {_number(true.max())})"
        ratio = sim.mean() / true.mean()
        lines.append(f"| {name} | {real_cell} | {cell} | {ratio:.2f} | {within} |")
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 20 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


@exit_on_user_error
def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--real", type=Path, default=None, help="folder with real KITTI frames")
    parser.add_argument("--frames", type=int, default=200, help="simulated frames")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenes", default="easy", help="easy, hard, or a yaml of options")
    args = parser.parse_args()
    scenes = read_scenes(args.scenes)
    real = real_clouds(args.real) if args.real else []
    simulated, cost_ms = simulated_clouds(max(args.frames, 1), args.seed, scenes)
    print(table(real, simulated))
    print(
        f"\n{len(real)} real frames, {len(simulated)} simulated ones (--scenes "
        f"{args.scenes}, seed {args.seed}); "
        f"{cost_ms:.1f} ms of one core per simulated frame, label and picture included"
    )


if __name__ == "__main__":
    main()
