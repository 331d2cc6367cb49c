"""The comparison of a teacher, a plain student and a distilled one, as text, markdown and JSON.

AP of KITTI is that at moderate difficulty over 40 recall positions (IoU 0.7 Car, 0.5 Pedestrian and
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

from ..errors import DataError
from ..texts import in_columns
from ..types import ConfigDict

METRICS = {"bev": "BEV AP", "3d": "3D AP"}
NUSCENES_SHORT = {
    "construction_vehicle": "constr",
    "trailer": "trail",
    "barrier": "barr",
    "motorcycle": "motor",
    "bicycle": "bike",
    "pedestrian": "ped",
    "traffic_cone": "cone",
}
MODELS = ("teacher", "student", "distilled")
BEGIN = "<!-- results:begin -->"
END = "<!-- results:end -->"
TEXT_WIDTH = 100


@dataclass(frozen=True)
class Benchmark:
    """How the results of a benchmark are shown.

    Attributes:
        metrics: titles of its kinds of AP.
        primary: the kind that the verdict is about.
        words: what the numbers are, for the line below the table.
        short_names: of classes, for the header of the text; else their first three letters.
    """

    metrics: Mapping[str, str]
    primary: str
    words: str
    short_names: Mapping[str, str] = field(default_factory=dict)

    def mean_title(self, metric: str) -> str:
        """``3D mAP`` for ``3D AP``."""
        return self.metrics[metric].replace("AP", "mAP")

    def short(self, name: str) -> str:
        """A class in the header of the text."""
        if not self.short_names:
            return name[:3]
        return self.short_names.get(name, name)


BENCHMARKS = {
    "kitti": Benchmark(
        metrics=METRICS,
        primary="3d",
        words="AP: KITTI moderate, R40, IoU 0.7 / 0.5 / 0.5; mAP: mean over classes.",
    ),
    "nuscenes": Benchmark(
        metrics={"ap": "AP"},
        primary="ap",
        words="AP: nuScenes, mean over centre distances of 0.5, 1, 2 and 4 m; mAP: mean over "
        "classes; NDS: mAP with the errors of place, size, heading, velocity and attribute.",
        short_names=NUSCENES_SHORT,
    ),
}


@dataclass(frozen=True)
class ModelResult:
    """One row: a model, its cost and its AP.

    Attributes:
        ap: in percent by kind, a key of its benchmark's metrics, and by class.
        scores: further numbers of the benchmark in percent, such as NDS.
    """

    name: str
    config: str
    epochs: int
    parameters: int
    gflops: float
    latency_ms: float
    ap: dict[str, dict[str, float]]
    scores: dict[str, float] = field(default_factory=dict)

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
    benchmark: str = "kitti"

    @property
    def shown_as(self) -> Benchmark:
        """How the results are shown."""
        return BENCHMARKS[self.benchmark]

    @property
    def rows(self) -> list[ModelResult]:
        """Teacher, student, distilled student."""
        return [self.teacher, self.student, self.distilled]

    @property
    def class_names(self) -> list[str]:
        """The evaluated classes, in the order of the configuration."""
        return list(self.teacher.ap[self.shown_as.primary])

    def gain(self, metric: str | None = None) -> float:
        """mAP of the distilled student minus that of the plain one; by default the primary one."""
        metric = metric or self.shown_as.primary
        return self.distilled.map(metric) - self.student.map(metric)

    def verdict(self) -> str:
        """What the teacher changed, in one or two sentences; a smoke run has no verdict."""
        if self.smoke:
            return "This was a smoke run: so few frames and epochs that its AP means nothing."
        primary = self.shown_as.primary
        before = self.student.map(primary)
        after = self.distilled.map(primary)
        return (
            f"The teacher {self._outcome()}: {self.shown_as.mean_title(primary)} {before:.1f} -> "
            f"{after:.1f} ({self.gain():+.1f}{self._gap_closed()}){self._other_gains()}. "
            "One run with one seed each; another seed changes such numbers by a few points."
        )

    def _other_gains(self) -> str:
        """What else the teacher changed, such as ``, BEV mAP +1.0``."""
        gains = {
            self.shown_as.mean_title(metric): self.gain(metric)
            for metric in self.shown_as.metrics
            if metric != self.shown_as.primary
        }
        for name, score in self.distilled.scores.items():
            gains[name] = score - self.student.scores[name]
        return "".join(f", {title} {gain:+.1f}" for title, gain in gains.items())

    def _outcome(self) -> str:
        gain = round(self.gain(), 1)
        if gain > 0:
            return "helped"
        return "hurt" if gain < 0 else "changed nothing"

    def _gap_closed(self) -> str:
        """The share of the gap to the teacher that is closed, where there is a gap and a gain."""
        primary = self.shown_as.primary
        gap = self.teacher.map(primary) - self.student.map(primary)
        if gap <= 0 or self.gain() <= 0:
            return ""
        return f", {100 * self.gain() / gap:.0f} % of the gap closed"

    def setting(self) -> str:
        """Data, metric and hardware in a few sentences."""
        epochs = ", ".join(f"{row.name} {row.epochs}" for row in self.rows)
        return (
            f"{self.train_frames} training and {self.val_frames} validation frames; "
            f"epochs: {epochs}. {self.shown_as.words} GFLOPs: 1e9 multiply-adds of one frame. "
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


def read_nuscenes(
    path: Path, class_names: Sequence[str]
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """AP by class and NDS, in percent, from the metrics.json of a nuScenes evaluation."""
    try:
        numbers = json.loads(path.read_text())["ap"]
        by_class = {name: 100.0 * float(numbers["mean_dist_aps"][name]) for name in class_names}
        return {"ap": by_class}, {"NDS": 100.0 * float(numbers["nd_score"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: not the metrics.json of a nuScenes evaluation ({error!r})"
        ) from error


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
    shown_as = comparison.shown_as
    for metric in shown_as.metrics:
        names = [shown_as.short(name) for name in comparison.class_names]
        header += [f"{metric} {name}" for name in [*names, "mAP"]]
    header += list(comparison.teacher.scores)
    lines = [header]
    for row in comparison.rows:
        lines.append([row.name, *table_cells(row, comparison.class_names)])
    paragraphs = [comparison.setting(), *comparison.notes, "", comparison.verdict()]
    below = [textwrap.fill(paragraph, width=TEXT_WIDTH) for paragraph in paragraphs]
    return "\n".join([*aligned(lines), "", *below]) + "\n"


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Cells in columns: names to the left, numbers to the right, a rule below the header."""
    texts = in_columns(lines)
    rule = "-" * max(len(text) for text in texts)
    return [texts[0], rule, *texts[1:]]


def to_markdown(comparison: Comparison, link_prefix: str = "", figures: str | None = None) -> str:
    """The table, the verdict and the command that reproduces them.

    Args:
        link_prefix: put before the yaml that each row links to.
        figures: where the report with every number is; linked when given.
    """
    header = "| model | parameters | GFLOPs | latency |"
    for title in comparison.shown_as.metrics.values():
        for name in [*comparison.class_names, "**mAP**"]:
            header += f" {title} {name} |"
    for name in comparison.teacher.scores:
        header += f" **{name}** |"
    lines = [header, "|---|" + "---:|" * (header.count("|") - 2)]
    for row in comparison.rows:
        cells = " | ".join(table_cells(row, comparison.class_names))
        lines.append(f"| [{row.name}]({link_prefix}{row.config}) | {cells} |")
    lines += ["", comparison.verdict(), "", comparison.setting(), *comparison.notes]
    link = "" if figures is None else f"; [every figure]({figures})"
    lines.append(f"Reproduce: `{comparison.command}`{link}")
    return "\n".join(lines) + "\n"


def table_cells(row: ModelResult, class_names: Sequence[str]) -> list[str]:
    """The numbers of a row: cost, each kind of AP by class with the mean, then other scores."""
    cells = [human_count(row.parameters), f"{row.gflops:.2f}", f"{row.latency_ms:.0f} ms"]
    for metric in row.ap:
        cells += [f"{row.ap[metric][name]:.1f}" for name in class_names]
        cells.append(f"{row.map(metric):.1f}")
    return [*cells, *(f"{score:.1f}" for score in row.scores.values())]


def human_count(number: int) -> str:
    """``644,592`` as ``645 k``, ``4,834,888`` as ``4.83 M``."""
    return f"{number / 1e6:.2f} M" if number >= 1e6 else f"{number / 1e3:.0f} k"


def to_plain(comparison: Comparison) -> dict[str, object]:
    """Plain containers for JSON, with means, gain and verdict for readers without this module."""
    plain = asdict(comparison)
    for name, row in zip(MODELS, comparison.rows):
        plain[name]["map"] = {metric: row.map(metric) for metric in row.ap}
    plain["gain"] = {metric: comparison.gain(metric) for metric in comparison.shown_as.metrics}
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
