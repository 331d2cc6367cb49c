"""The comparison of a teacher, a plain student and a distilled one, as text, markdown and JSON.

AP is KITTI's at moderate difficulty over 40 recall positions (IoU 0.7 Car, 0.5 Pedestrian and
Cyclist), or the exact area of an evaluation in LiDAR coordinates, at the first IoU threshold of
each class. mAP is the mean over the evaluated classes. The verdict states what the teacher changed,
whether it helped or not.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .errors import DataError
from .types import ConfigDict

METRICS = {"bev": "BEV AP", "3d": "3D AP"}
MODELS = ("teacher", "student", "distilled")
BEGIN = "<!-- results:begin -->"
END = "<!-- results:end -->"
TEXT_WIDTH = 100


@dataclass(frozen=True)
class ModelResult:
    """One row: a model, its cost and its AP."""

    name: str
    config: str
    epochs: int
    parameters: int
    gflops: float
    latency_ms: float
    ap: dict[str, dict[str, float]]  # [metric][class], metric in {"bev", "3d"}

    def map(self, metric: str) -> float:
        """Mean AP over the classes."""
        values = self.ap[metric].values()
        return sum(values) / len(values)


@dataclass(frozen=True)
class Comparison:
    """The three rows, and what a reader needs to judge them."""

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
        before = self.student.map("3d")
        after = self.distilled.map("3d")
        return (
            f"The teacher {self._outcome()}: 3D mAP {before:.1f} -> {after:.1f} "
            f"({self.gain():+.1f}{self._gap_closed()}), BEV mAP {self.gain('bev'):+.1f}. "
            "One run with one seed each; another seed changes such numbers by a few points."
        )

    def _outcome(self) -> str:
        gain = round(self.gain(), 1)
        if gain > 0:
            return "helped"
        return "hurt" if gain < 0 else "changed nothing"

    def _gap_closed(self) -> str:
        """The share of the gap to the teacher that is closed, where there is a gap and a gain."""
        gap = self.teacher.map("3d") - self.student.map("3d")
        if gap <= 0 or self.gain() <= 0:
            return ""
        return f", {100 * self.gain() / gap:.0f} % of the gap closed"

    def setting(self) -> str:
        """Data, metric and hardware in a few sentences."""
        epochs = ", ".join(f"{row.name} {row.epochs}" for row in self.rows)
        return (
            f"{self.train_frames} training and {self.val_frames} validation frames; "
            f"epochs: {epochs}. AP: KITTI moderate, R40, IoU 0.7 / 0.5 / 0.5; mAP: mean over "
            "classes. GFLOPs: 1e9 multiply-adds of one frame. "
            f"Latency: median of one frame, NMS included, {self.device}."
        )


def read_ap(path: Path, class_names: Sequence[str]) -> dict[str, dict[str, float]]:
    """AP ``[metric][class]`` from the metrics.json of an evaluation.

    Of KITTI's it is R40 at moderate difficulty, of one in LiDAR coordinates the exact area.
    """
    ap: dict[str, dict[str, float]] = {}
    try:
        by_class = json.loads(path.read_text())["ap"]
        for metric in METRICS:
            ap[metric] = {name: _ap_of_class(by_class[name], metric) for name in class_names}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: not the metrics.json of a KITTI evaluation, nor of one in LiDAR coordinates "
            f"({error!r})"
        ) from error
    return ap


def _ap_of_class(numbers: Mapping[str, Any], metric: str) -> float:
    """The AP of one class; a class without objects has none, which is a TypeError."""
    if "strict" in numbers:
        return float(numbers["strict"][metric]["R40"]["moderate"])
    by_threshold = numbers[metric]
    first = next(iter(by_threshold.values()))
    return float(first["area"])


def ap_words(data_config: ConfigDict) -> str:
    """What ``read_ap`` reads from evaluations of this DATA_CONFIG, for the line below a table."""
    is_kitti = data_config.get("DATASET") == "KittiDataset"
    if is_kitti and data_config.get("EVALUATION") is None:
        return "KITTI moderate, R40"
    return "in LiDAR coordinates, exact area, at the first IoU threshold of each class"


def to_text(comparison: Comparison) -> str:
    """The table for a terminal, with the setting below and the verdict last."""
    header = ["", "params", "GFLOPs", "latency"]
    for metric in METRICS:
        header += [f"{metric} {name[:3]}" for name in [*comparison.class_names, "mAP"]]
    lines = [header]
    for row in comparison.rows:
        lines.append([row.name, *table_cells(row, comparison.class_names)])
    paragraphs = [comparison.setting(), *comparison.notes, "", comparison.verdict()]
    below = [textwrap.fill(paragraph, width=TEXT_WIDTH) for paragraph in paragraphs]
    return "\n".join([*aligned(lines), "", *below]) + "\n"


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Cells in columns: names to the left, numbers to the right, a rule below the header."""
    widths = [0] * len(lines[0])
    for line in lines:
        widths = [max(width, len(cell)) for width, cell in zip(widths, line)]
    texts = []
    for name, *numbers in lines:
        cells = [cell.rjust(width) for cell, width in zip(numbers, widths[1:])]
        texts.append("  ".join([name.ljust(widths[0]), *cells]).rstrip())
    rule = "-" * max(len(text) for text in texts)
    return [texts[0], rule, *texts[1:]]


def to_markdown(comparison: Comparison, link_prefix: str = "", figures: str | None = None) -> str:
    """The table, the verdict and the command that reproduces them.

    Args:
        link_prefix: put before the yaml that each row links to.
        figures: where the report with every number is; linked when given.
    """
    header = "| model | parameters | GFLOPs | latency |"
    for title in METRICS.values():
        for name in [*comparison.class_names, "**mAP**"]:
            header += f" {title} {name} |"
    lines = [header, "|---|" + "---:|" * (header.count("|") - 2)]
    for row in comparison.rows:
        cells = " | ".join(table_cells(row, comparison.class_names))
        lines.append(f"| [{row.name}]({link_prefix}{row.config}) | {cells} |")
    lines += ["", comparison.verdict(), "", comparison.setting(), *comparison.notes]
    link = "" if figures is None else f"; [every figure]({figures})"
    lines.append(f"Reproduce: `{comparison.command}`{link}")
    return "\n".join(lines) + "\n"


def table_cells(row: ModelResult, class_names: Sequence[str]) -> list[str]:
    """The numbers of a row: cost, then BEV and 3D AP by class with the mean."""
    cells = [human_count(row.parameters), f"{row.gflops:.2f}", f"{row.latency_ms:.0f} ms"]
    for metric in METRICS:
        cells += [f"{row.ap[metric][name]:.1f}" for name in class_names]
        cells.append(f"{row.map(metric):.1f}")
    return cells


def human_count(number: int) -> str:
    """``644,592`` as ``645 k``, ``4,834,888`` as ``4.83 M``."""
    return f"{number / 1e6:.2f} M" if number >= 1e6 else f"{number / 1e3:.0f} k"


def to_plain(comparison: Comparison) -> dict[str, object]:
    """Plain containers for JSON, with means, gain and verdict for readers without this module."""
    plain = asdict(comparison)
    for name, row in zip(MODELS, comparison.rows):
        plain[name]["map"] = {metric: row.map(metric) for metric in METRICS}
    plain["gain"] = {metric: comparison.gain(metric) for metric in METRICS}
    plain["verdict"] = comparison.verdict()
    return plain


def rounded(plain: object, digits: int = 2) -> object:
    """Plain containers with every float rounded."""
    if isinstance(plain, dict):
        return {key: rounded(value, digits) for key, value in plain.items()}
    if isinstance(plain, list):
        return [rounded(value, digits) for value in plain]
    return round(plain, digits) if isinstance(plain, float) else plain


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
    """The comparison in a report.json of ``write_report``."""
    try:
        plain = json.loads(path.read_text())
        rows = {}
        for name in MODELS:
            row = plain.pop(name)
            row.pop("map", None)
            rows[name] = ModelResult(**row)
        for derived in ("gain", "verdict"):
            plain.pop(derived, None)
        return Comparison(
            teacher=rows["teacher"],
            student=rows["student"],
            distilled=rows["distilled"],
            **plain,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not a report.json written by the quickstart ({error})") from error


def insert_results(readme: Path, markdown: str) -> None:
    """Replace what stands between the two markers of a markdown file; both must be in it once."""
    text = readme.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise DataError(
            f"{readme}: expected the lines '{BEGIN}' and '{END}' once each, in this order"
        )
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    readme.write_text(f"{before}{BEGIN}\n{markdown}{END}{after}")
