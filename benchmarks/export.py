"""An exported network is faster than torch on one core, and its int8 form faster still.

    OMP_NUM_THREADS=1 python benchmarks/export.py --cfg_file YAML --ckpt FILE --clouds DIR

Prints the time of every stage from points to boxes, for float and int8 in every runtime that is
installed, and the ratios. Everything takes turns on one core and counts processor time. The clouds
also calibrate: the last eight are measured, the others calibrate.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from pcdet_distill.export.exporter import export_detector, model_bytes
from pcdet_distill.export.latency import GROUPING, SELECTION, measure_stages, stage_table
from pcdet_distill.export.quantize import HIGHEST_OPSET, quantize_export
from pcdet_distill.export.reference import network_inputs
from pcdet_distill.inference import load_detector

MEASURED = 8
MOST_CALIBRATING = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cfg_file", required=True)
    parser.add_argument("--ckpt", required=True, type=Path)
    parser.add_argument("--clouds", required=True, type=Path, help="folder of .bin files")
    parser.add_argument("--num_columns", type=int, default=4, help="of the files (default: 4)")
    args = parser.parse_args()
    detector = load_detector(args.cfg_file, args.ckpt, device="cpu")
    clouds = [
        np.fromfile(path, np.float32).reshape(-1, args.num_columns)
        for path in sorted(args.clouds.glob("*.bin"))[: MEASURED + MOST_CALIBRATING]
    ]
    export = export_detector(detector, args.ckpt, opset=HIGHEST_OPSET)
    calibrating = clouds[:-MEASURED] or clouds
    frames = [network_inputs(detector.model, detector.batch(points)) for points in calibrating]
    quantized = quantize_export(export, frames).export
    times = measure_stages(detector, {"float": export, "int8": quantized}, clouds[-MEASURED:])
    print(stage_table(times))
    for name, other in (("float", export), ("int8", quantized)):
        print(f"{name}: {len(model_bytes(other.model)) / 1e6:.2f} MB")
    around = times[GROUPING].median + times[SELECTION].median
    for name, measured in times.items():
        if name in (GROUPING, SELECTION):
            continue
        network = times["torch"].median / measured.median
        road = (times["torch"].median + around) / (measured.median + around)
        print(f"{name}: network {network:.2f}x, points to boxes {road:.2f}x as fast as torch")


if __name__ == "__main__":
    main()
