"""results.csv of a study: one line for each run and evaluated split.

Everything that the tables are made of, with two decimals: cost of training in CPU and wall-clock
seconds as measured and in counted seconds (``costs.py``), cost at test time, and AP at moderate
difficulty (R40) by class, BEV and 3D.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ....report.comparison import METRICS
from ..cost.measured import Measured
from ..survey import FINISHED, Ap, Outcome, mean_ap
from .table import MAP

RUN_COLUMNS = ("run", "row", "seed", "split", "status", "epochs", "cpu_s", "wall_s", "counted_s")
MEASURED_COLUMNS = ("parameters", "gflops", "latency_ms")


def write_results(
    path: Path,
    outcomes: Iterable[Outcome],
    *,
    splits: Sequence[str],
    class_names: Sequence[str],
    measured: Mapping[str, Measured],
    counted: Mapping[str, float],
) -> None:
    """Write results.csv. A run without results has lines too, with empty numbers.

    Args:
        measured: cost at test time, by row.
        counted: seconds of training counted from measured steps, by row.
    """
    columns = [*RUN_COLUMNS, *MEASURED_COLUMNS]
    for metric in METRICS:
        columns += [ap_column(metric, name) for name in (*class_names, MAP)]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for outcome in outcomes:
            for split in splits:
                cells = {**_run_cells(outcome), "split": split}
                if outcome.run.row.name in counted:
                    cells["counted_s"] = _number(counted[outcome.run.row.name])
                cells.update(_measured_cells(measured.get(outcome.run.row.name, {})))
                if outcome.status == FINISHED:
                    cells.update(_ap_cells(outcome.ap[split]))
                writer.writerow(cells)


def ap_column(metric: str, name: str) -> str:
    """The column of a class, or of the mean over classes: ``3d_Car``, ``bev_mAP``."""
    return f"{metric}_{name}"


def _run_cells(outcome: Outcome) -> dict[str, str]:
    run = outcome.run
    cost = outcome.cost
    return {
        "run": run.name,
        "row": run.row.name,
        "seed": str(run.seed),
        "status": outcome.status,
        "epochs": "" if run.epochs is None else str(run.epochs),
        "cpu_s": "" if cost is None else _number(cost.cpu_s),
        "wall_s": "" if cost is None else _number(cost.wall_s),
    }


def _measured_cells(measured: Measured) -> dict[str, str]:
    cells = {}
    if "parameters" in measured:
        cells["parameters"] = str(measured["parameters"])
    if "gflops" in measured:
        cells["gflops"] = _number(measured["gflops"])
    if "latency_ms" in measured:
        cells["latency_ms"] = _number(measured["latency_ms"])
    return cells


def _ap_cells(ap: Ap) -> dict[str, str]:
    cells = {}
    for metric in METRICS:
        for name, value in ap[metric].items():
            cells[ap_column(metric, name)] = _number(value)
        cells[ap_column(metric, MAP)] = _number(mean_ap(ap, metric))
    return cells


def _number(value: float) -> str:
    return f"{value:.2f}"
