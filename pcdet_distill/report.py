"""The comparison of a teacher, a plain student and a distilled one, as terminal text, markdown and JSON.

AP is KITTI's at moderate difficulty over 40 recall positions (IoU 0.7 Car, 0.5 Pedestrian and Cyclist); mAP is the mean
over the classes that were evaluated. The verdict says what the teacher changed, whether it helped or not.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .errors import DataError

METRICS = {"bev": "BEV AP", "3d": "3D AP"}
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


@dataclass(frozen=True)
class ModelResult:
    """One row: what a model is, what it costs and how well it does. ``ap[metric][class]``, metric in {"bev", "3d"}."""

    name: str
    config: str
    epochs: int
    parameters: int
    gflops: float
    latency_ms: float
    ap: dict[str, dict[str, float]]

    def map(self, metric: str) -> float:
        """Mean AP over the classes."""
        values = self.ap[metric].values()
        return sum(values) / len(values)


@dataclass(frozen=True)
class Comparison:
    """All rows, and what a reader must know to judge them."""

    teacher: ModelResult
    student: ModelResult
    distilled: ModelResult
    train_frames: int
    val_frames: int
    device: str
    command: str
    smoke: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def rows(self) -> list[ModelResult]:
        """Teacher, student, distilled student."""
        return [self.teacher, self.student, self.distilled]

    @property
    def class_names(self) -> list[str]:
        """The evaluated classes, in the order of the configuration."""
        return list(self.teacher.ap["3d"])

    def gain(self, metric: str = "3d") -> float:
        """mAP of the distilled student minus that of the plain one."""
        return self.distilled.map(metric) - self.student.map(metric)

    def verdict(self) -> str:
        """What the teacher changed, in one or two sentences; a smoke run has no verdict."""
        if self.smoke:
            return "This was a smoke run: so few frames and epochs that its AP means nothing."
        gain = self.gain()
        outcome = (
            "helped" if round(gain, 1) > 0 else "hurt" if round(gain, 1) < 0 else "changed nothing"
        )
        gap = self.teacher.map("3d") - self.student.map("3d")
        share = (
            f", {100 * gain / gap:.0f} % of the way to the teacher" if gain > 0 and gap > 0 else ""
        )
        return (
            f"The teacher {outcome}: 3D mAP {self.student.map('3d'):.1f} -> {self.distilled.map('3d'):.1f} "
            f"({gain:+.1f}{share}), BEV mAP {self.gain('bev'):+.1f}. "
            "One run with one seed each; another seed moves such numbers by a few points."
        )

    def setting(self) -> str:
        """Data, metric and hardware in one sentence."""
        epochs = {row.name: row.epochs for row in self.rows}
        trained = ", ".join(f"{name} {count}" for name, count in epochs.items())
        return (
            f"{self.train_frames} training and {self.val_frames} validation frames; epochs: {trained}. "
            "AP: KITTI moderate, R40, IoU 0.7 / 0.5 / 0.5; mAP: mean over classes. "
            f"GFLOPs: 1e9 multiply-adds of one frame. Latency: median of one frame, NMS included, {self.device}."
        )


def read_ap(path: Path, class_names: list[str]) -> dict[str, dict[str, float]]:
    """Moderate AP over 40 recall positions, ``[metric][class]``, from the metrics.json of an evaluation."""
    try:
        metrics = json.loads(path.read_text())["ap"]
        return {
            metric: {
                name: float(metrics[name]["strict"][metric]["R40"]["moderate"])
                for name in class_names
            }
            for metric in METRICS
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: not the metrics.json of a KITTI evaluation ({error!r})"
        ) from error


def to_text(comparison: Comparison) -> str:
    """The table for a terminal, with the setting below and the verdict last."""
    header = ["", "params", "GFLOPs", "latency"]
    header += [
        f"{metric} {name[:3]}" for metric in METRICS for name in [*comparison.class_names, "mAP"]
    ]
    rows = [[row.name, *table_cells(row, comparison.class_names)] for row in comparison.rows]
    widths = [max(len(line[column]) for line in [header, *rows]) for column in range(len(header))]
    lines = [
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(line, widths))
        ).rstrip()
        for line in [header, *rows]
    ]
    lines.insert(1, "-" * max(map(len, lines)))
    below = [comparison.setting(), *comparison.notes, "", comparison.verdict()]
    return "\n".join([*lines, "", *(textwrap.fill(text, width=110) for text in below)]) + "\n"


def to_markdown(comparison: Comparison, link_prefix: str = "", figures: str | None = None) -> str:
    """The table, each row linked to its yaml (``link_prefix`` + config path), and the command that reproduces it.

    ``figures`` links to the report with every number.
    """
    groups = ["| model | parameters | GFLOPs | latency |"]
    for title in METRICS.values():
        groups.append(
            "".join(f" {title} {name} |" for name in [*comparison.class_names, "**mAP**"])
        )
    header = "".join(groups)
    ruler = "|---|" + "---:|" * (header.count("|") - 2)
    body = []
    for row in comparison.rows:
        cells = " | ".join(table_cells(row, comparison.class_names))
        body.append(f"| [{row.name}]({link_prefix}{row.config}) | {cells} |")
    parts = [
        header,
        ruler,
        *body,
        "",
        comparison.verdict(),
        "",
        comparison.setting(),
        *comparison.notes,
    ]
    link = "" if figures is None else f"; [every figure]({figures})"
    return "\n".join([*parts, f"Reproduce: `{comparison.command}`{link}"]) + "\n"


def table_cells(row: ModelResult, class_names: Sequence[str]) -> list[str]:
    """A row's figures as text: cost, then BEV and 3D AP per class with the mean."""
    cells = [human_count(row.parameters), f"{row.gflops:.2f}", f"{row.latency_ms:.0f} ms"]
    for metric in METRICS:
        cells += [f"{row.ap[metric][name]:.1f}" for name in class_names]
        cells.append(f"{row.map(metric):.1f}")
    return cells


def human_count(number: int) -> str:
    """``644,592`` as ``645 k``, ``4,834,888`` as ``4.83 M``."""
    return f"{number / 1e6:.2f} M" if number >= 1e6 else f"{number / 1e3:.0f} k"


def to_plain(comparison: Comparison) -> dict[str, Any]:
    """Plain containers for JSON; the means, the gain and the verdict are included for readers without this module."""
    plain = asdict(comparison)
    for name in ("teacher", "student", "distilled"):
        plain[name]["map"] = {metric: getattr(comparison, name).map(metric) for metric in METRICS}
    return {
        **plain,
        "gain": {metric: comparison.gain(metric) for metric in METRICS},
        "verdict": comparison.verdict(),
    }


def write_report(comparison: Comparison, folder: Path) -> list[Path]:
    """Write report.txt, report.md and report.json into ``folder``; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "report.txt": to_text(comparison),
        "report.md": to_markdown(comparison),
        "report.json": json.dumps(to_plain(comparison), indent=2) + "\n",
    }
    for name, content in contents.items():
        (folder / name).write_text(content)
    return [folder / name for name in contents]


def read_report(path: Path) -> Comparison:
    """The comparison that ``write_report`` wrote as report.json."""
    try:
        plain = json.loads(path.read_text())
        models = {name: plain.pop(name) for name in ("teacher", "student", "distilled")}
        rows = [
            ModelResult(**{key: value for key, value in row.items() if key != "map"})
            for row in models.values()
        ]
        known = {key: value for key, value in plain.items() if key not in ("gain", "verdict")}
        return Comparison(teacher=rows[0], student=rows[1], distilled=rows[2], **known)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a report.json written by the quickstart ({error})") from error


def insert_results(readme: Path, markdown: str) -> None:
    """Replace what stands between the two result markers of a markdown file, which must hold both once."""
    text = readme.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise DataError(
            f"{readme}: expected the lines '{BEGIN}' and '{END}' once each, in this order"
        )
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    readme.write_text(f"{before}{BEGIN}\n{markdown}{END}{after}")
