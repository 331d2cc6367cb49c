"""Claim: KITTI evaluation takes time linear in the number of frames, seconds for a validation set.

Run ``python benchmarks/kitti_eval.py [--frames 1000 2000 4000]``. It evaluates generated
annotations (about 7 objects and 7 detections a frame, three classes) for each number of frames.
Printed are the time, and time and frames relative to the first row: in a linear evaluation the two
agree.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from pcdet_distill.evaluation.kitti import kitti_eval

CLASSES = ("Car", "Pedestrian", "Cyclist")
NAMES = np.array([*CLASSES, "Van", "DontCare"])
SHARES = (0.55, 0.15, 0.1, 0.08, 0.12)
SIZES_M = np.array(
    [[3.9, 1.5, 1.6], [0.8, 1.75, 0.6], [1.8, 1.75, 0.6], [5.0, 2.2, 1.9], [2.0, 1.5, 1.5]]
)
FOCAL_PX = 720.0


def image_boxes(location: np.ndarray, dimensions: np.ndarray) -> np.ndarray:
    """Upright image boxes (N, 4) of camera boxes, by a pinhole camera."""
    scale = FOCAL_PX / location[:, 2:3]
    centre = location[:, 0:2] * scale + np.array([[610.0, 175.0]])
    half_width, height = dimensions[:, 0:1] / 2 * scale, dimensions[:, 1:2] * scale
    return np.concatenate(
        (
            centre[:, :1] - half_width,
            centre[:, 1:] - height,
            centre[:, :1] + half_width,
            centre[:, 1:],
        ),
        axis=1,
    ).astype(np.float32)


def truth_frame(rng: np.random.Generator) -> dict[str, np.ndarray]:
    count = rng.poisson(7.4)
    kind = rng.choice(len(NAMES), count, p=SHARES)
    location = rng.uniform((-20, 1.5, 5), (20, 1.9, 60), (count, 3)).astype(np.float32)
    dimensions = SIZES_M[kind] * rng.uniform(0.9, 1.1, (count, 3))
    return {
        "name": NAMES[kind],
        "truncated": rng.choice((0.0, 0.2, 0.4), count),
        "location": location,
        "occluded": rng.integers(0, 4, count).astype(float),
        "alpha": rng.uniform(-3, 3, count),
        "dimensions": dimensions,
        "rotation_y": rng.uniform(-3, 3, count),
        "bbox": image_boxes(location, dimensions),
    }


def detected_frame(truth: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Most objects, slightly displaced, and some false positives."""
    invented = truth_frame(rng)
    seen = np.isin(truth["name"], CLASSES) & (rng.random(len(truth["name"])) < 0.85)
    extra = np.isin(invented["name"], CLASSES) & (rng.random(len(invented["name"])) < 0.4)
    merged = {key: np.concatenate((truth[key][seen], invented[key][extra])) for key in truth}
    count = len(merged["name"])
    location = merged["location"] + rng.normal(0, (0.1, 0.05, 0.15), (count, 3))
    floats = {
        "location": location,
        "dimensions": merged["dimensions"] * rng.uniform(0.95, 1.05, (count, 3)),
        "rotation_y": merged["rotation_y"] + rng.normal(0, 0.1, count),
        "score": rng.random(count),
        "alpha": merged["alpha"],
        "bbox": image_boxes(location, merged["dimensions"]),
    }
    return {
        "name": merged["name"],
        **{key: value.astype(np.float32) for key, value in floats.items()},
    }


def generate(frames: int, seed: int = 0) -> tuple[list[dict], list[dict]]:
    """Annotations and detections of so many frames."""
    rng = np.random.default_rng(seed)
    truth = [truth_frame(rng) for _ in range(frames)]
    return truth, [detected_frame(frame, rng) for frame in truth]


def seconds(truth: list[dict], detected: list[dict]) -> float:
    start = time.perf_counter()
    kitti_eval(truth, detected, CLASSES)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, nargs="+", default=[1000, 2000, 4000])
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    print(f"first call, compiling or loading what was compiled: {seconds(*generate(10)):.2f} s")
    print(" frames  objects detections  seconds  ms/frame  frames x  time x")
    first: float | None = None
    for count in args.frames:
        truth, detected = generate(count)
        taken = min(seconds(truth, detected) for _ in range(args.repeats))
        first = first or taken
        objects, found = (sum(len(frame["name"]) for frame in annos) for annos in (truth, detected))
        print(
            f"{count:7d} {objects:8d} {found:10d} {taken:8.2f} {1000 * taken / count:9.3f} "
            f"{count / args.frames[0]:9.2f} {taken / first:7.2f}"
        )


if __name__ == "__main__":
    main()
