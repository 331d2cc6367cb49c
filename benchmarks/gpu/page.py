"""The measured section of docs/gpu.md: tables, targets, and what was not measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.timing import Measured

BEGIN = "<!-- written by benchmarks/cuda.py -->"
END = "<!-- end of what benchmarks/cuda.py wrote -->"
POINT_PILLARS_MS = 3.0  # target of one frame in float32 on an H100

# Largest ratio ours / OpenPCDet that meets the target.
EVALUATION = 1.0
TRAINING_ONE_STAGE = 1 / 1.5
TRAINING_TWO_STAGES = 1.0
MEMORY = 1.0
# Largest ratio of a pass without spconv to one with it.
WITHOUT_SPCONV = 1.3

Row = Mapping[str, Any]


def section(results: Mapping[str, Any]) -> str:
    """The whole section, from the results of one run."""
    parts = [
        BEGIN,
        "",
        f"{results['device']}, {results['versions']}, {results['date']}.",
        f"A training step has {results['batch_size']} simulated KITTI frames with augmentation; "
        "an evaluation has one.",
        "Times are medians in milliseconds. float32 is without TF32.",
        "",
        times_table(results["detectors"], "evaluation", "Evaluation of one frame"),
        compiled_table(results["detectors"]),
        times_table(results["detectors"], "training", "Training step"),
        memory_table(results["detectors"]),
        ratio_table(results["detectors"]),
        without_spconv_table(results["without_spconv"]),
        distilled_table(results["distilled"]),
        throughput_table(results["throughput"]),
        END,
    ]
    return "\n".join(part for part in parts if part is not None)


def times_table(rows: Sequence[Row], kind: str, title: str, side: str = "ours") -> str:
    """Milliseconds by precision."""
    names = list(rows[0][side][kind])
    lines = [f"| {title}, ms | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for row in rows:
        cells = [cell(row[side][kind][name]) for name in names]
        lines.append(f"| {row['name']} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def compiled_table(rows: Sequence[Row]) -> str | None:
    """Milliseconds with the dense part compiled, of the detectors that have one."""
    compiled = [row for row in rows if row["compiled"]["evaluation"]]
    if not compiled:
        return None
    return times_table(compiled, "evaluation", "Evaluation, dense part compiled", "compiled")


def without_spconv_table(rows: Sequence[Row] | None) -> str:
    """Our sparse convolutions over spconv's, with the target."""
    if not rows:
        return "spconv was not at hand, so our sparse convolutions are not compared with it.\n"
    lines = ["| float32, without spconv / with it | evaluation | training |", "|---|---|---|"]
    for row in rows:
        cells = [within(row[kind], WITHOUT_SPCONV) for kind in ("evaluation", "training")]
        lines.append(f"| {row['name']} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def memory_table(rows: Sequence[Row]) -> str:
    """Peak memory of a training step by precision."""
    return times_table(rows, "memory", "Peak memory of training").replace(", ms |", ", MB |", 1)


def ratio_table(rows: Sequence[Row]) -> str:
    """Ours over OpenPCDet's, with the targets, in the precisions that both ran."""
    compared = [row for row in rows if row.get("theirs")]
    if not compared:
        return "OpenPCDet was not at hand, so nothing is compared with it.\n"
    lines = [
        "| float32, ours / OpenPCDet | evaluation | training | memory of training |",
        "|---|---|---|---|",
    ]
    for row in compared:
        limit = TRAINING_TWO_STAGES if row["two_stages"] else TRAINING_ONE_STAGE
        cells = [
            verdict(row, "evaluation", EVALUATION),
            verdict(row, "training", limit),
            verdict(row, "memory", MEMORY),
        ]
        lines.append(f"| {row['name']} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def verdict(row: Row, kind: str, limit: float) -> str:
    """The ratio in float32, and whether it meets the target."""
    ours = row["ours"][kind]["float32"]
    theirs = row["theirs"][kind]["float32"]
    if not isinstance(ours, float) or not isinstance(theirs, float):
        return f"{cell(ours)} / {cell(theirs)}"
    return within(ours / theirs, limit)


def within(ratio: Measured, limit: float) -> str:
    """A ratio, and whether it meets its target; or the word why there is none."""
    if not isinstance(ratio, float):
        return cell(ratio)
    word = "met" if ratio <= limit else "not met"
    return f"{ratio:.2f}, target {limit:.2f}: {word}"


def distilled_table(rows: Sequence[Row]) -> str:
    """A distilled step over a step of the student alone; the graph loss over the published form."""
    lines = ["| recipe or loss | time, ratio | compared with |", "|---|---:|---|"]
    for row in rows:
        lines.append(f"| {row['name']} | {cell(row['ratio'], 2)} | {row['against']} |")
    return "\n".join([*lines, ""])


def throughput_table(rows: Sequence[Row]) -> str:
    """Frames a second of a whole training, and of its steps alone."""
    lines = [
        "| training in float32 | batch | workers | frames/s | frames/s of the steps alone |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        cells = [str(row["batch_size"]), str(row["workers"])]
        cells += [cell(row["frames_per_s"]), cell(row["steps_alone"])]
        lines.append(f"| {row['name']} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def cell(value: Measured, digits: int = 1) -> str:
    """A number, the word why there is none, or that it was not measured."""
    if value is None:
        return "not measured"
    return value if isinstance(value, str) else f"{value:.{digits}f}"


def replace_section(page: Path, text: str) -> None:
    """Put ``text`` between the two comments of the page."""
    before, found_begin, rest = page.read_text().partition(BEGIN)
    _, found_end, after = rest.partition(END)
    if not (found_begin and found_end):
        raise SystemExit(f"error: {page}: expected the comments '{BEGIN}' and '{END}'")
    page.write_text(before + text + after)
