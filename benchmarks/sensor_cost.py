"""What a sweep of each simulated sensor costs, in sweeps of the standard one.

    OMP_NUM_THREADS=1 python benchmarks/sensor_cost.py --frames 30

The times are those of the CPU, so other work on the machine disturbs little. A frame costs the
drawing of its scene as well, and the sweeps of all its sensors.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable

import numpy as np

from pcdet_distill.datasets.synthetic.scenes.builder import Scene
from pcdet_distill.datasets.synthetic.scenes.options import EASY
from pcdet_distill.datasets.synthetic.sensors.camera import Camera
from pcdet_distill.datasets.synthetic.sensors.ego_motion import draw_motion
from pcdet_distill.datasets.synthetic.sensors.scan import earlier_sweeps, scan
from pcdet_distill.datasets.synthetic.sensors.sensor_options import STANDARD, read_sensor
from pcdet_distill.datasets.synthetic.streams import Streams
from pcdet_distill.datasets.synthetic.writer import simulate_frame
from pcdet_distill.errors import exit_on_user_error

SENSORS = (STANDARD, "lidar32", "vlp16", "solid_state")


def sweep_of(name: str, frame: int, scene: Scene) -> np.ndarray:
    """The points of one sweep."""
    random = Streams(0, frame).of(name)
    return scan(scene, read_sensor(name), Camera.standard(), random).points


def earlier_sweep(frame: int, scene: Scene) -> np.ndarray:
    """The points of one earlier sweep of the standard sensor."""
    streams = Streams(0, frame)
    motion = draw_motion(scene, streams.of("motion"))
    sensor = read_sensor(STANDARD)
    return earlier_sweeps(scene, motion, sensor, count=1, scenes=EASY, streams=streams)


def measure(make: Callable[[int, Scene], np.ndarray], scenes: list[Scene]) -> tuple[float, float]:
    """CPU seconds and points of a sweep, means over the scenes."""
    make(0, scenes[0])  # compiles, and fills the caches
    counts = []
    start = time.process_time()
    for frame, scene in enumerate(scenes):
        counts.append(len(make(frame, scene)))
    return (time.process_time() - start) / len(scenes), float(np.mean(counts))


@exit_on_user_error
def main() -> None:
    """Print one row for each sensor."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=30)
    frames = parser.parse_args().frames
    scenes = [simulate_frame(0, frame)[0] for frame in range(frames)]
    results = {}
    for name in SENSORS:
        results[name] = measure(functools.partial(sweep_of, name), scenes)
    results[f"{STANDARD}, an earlier sweep"] = measure(earlier_sweep, scenes)
    standard_s = results[STANDARD][0]
    print(f"{'sensor':28} {'points':>8} {'cost':>6}")
    for name, (seconds, points) in results.items():
        print(f"{name:28} {points:8.0f} {seconds / standard_s:6.2f}")


if __name__ == "__main__":
    main()
