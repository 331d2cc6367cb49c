"""From runs to rows: mean and standard deviation over the seeds, what is compared, as text, markdown and JSON.

AP is KITTI's at moderate difficulty over 40 recall positions (IoU 0.7 Car, 0.5 Pedestrian and Cyclist), mAP the mean
over the classes. ``+-`` is the standard deviation of the seeds (n - 1). The gap is the way of the 3D mAP from the
baseline row (0 %) to the teacher (100 %).
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ...report import METRICS, human_count
from .comparisons import EQUAL_COMPUTE, EQUAL_EPOCHS, LEFT_OUT, Comparison, compare_rows
from .plan import StudyPlan
from .results import BLOCKED, FAILED, FINISHED, Outcome, mean_ap, seconds
from .spec import TEACHER, RowSpec
from .spread import Spread

MAP = "mAP"


@dataclass(frozen=True)
class Row:
    """A line of the table, on one split."""

    name: str
    title: str
    config: str
    settings: Mapping[str, Any]
    seeds: int  # finished
    planned: int
    epochs: int | None
    ap: Mapping[
        str, Mapping[str, Spread]
    ]  # by metric, then class or mAP; empty when no run finished
    train_s: Spread | None
    gap: float | None
    failures: Sequence[str] = ()
    open: Sequence[str] = ()  # runs still to come, and what they wait for
    measured: Mapping[str, float] = field(default_factory=dict)  # parameters, gflops, latency_ms
    note: str = ""


@dataclass(frozen=True)
class Table:
    """All rows of a study on one split, the best first under the teacher, and what must be known to read them."""

    study: str
    split: str
    rows: Sequence[Row]
    class_names: Sequence[str]
    setting: str
    comparisons: Sequence[Comparison] = ()

    def row(self, name: str) -> Row:
        """The row of that name."""
        return next(row for row in self.rows if row.name == name)


def make_table(
    plan: StudyPlan,
    outcomes: Mapping[str, Outcome],
    split: str,
    *,
    on_gpu: bool = False,
    measured: Mapping[str, Mapping[str, float]] | None = None,
    equal: Mapping[str, Mapping[str, Any]] | None = None,
) -> Table:
    """The table of ``split`` from what is there. ``measured`` by row: parameters, gflops, latency_ms."""
    specs = [
        *([plan.spec.teacher] if TEACHER in outcomes and plan.spec.teacher else []),
        *plan.spec.rows.values(),
    ]
    means = {spec.name: _mean_map(_of_row(spec, outcomes), split) for spec in specs}
    rows = [
        _row(
            plan,
            spec,
            _of_row(spec, outcomes),
            split,
            means,
            on_gpu,
            (measured or {}).get(spec.name, {}),
            (equal or {}).get(spec.name),
        )
        for spec in specs
    ]
    names = list(plan.configs[specs[0].name].CLASS_NAMES)
    return Table(
        plan.spec.name,
        split,
        _best_first(rows, specs),
        names,
        _setting(plan, split, on_gpu),
        compare_rows(plan, outcomes, split),
    )


def _best_first(rows: Sequence[Row], specs: Sequence[RowSpec]) -> list[Row]:
    """The teacher, then the rows of each baseline by 3D mAP; those without a number last."""
    baselines = {spec.name: spec.baseline for spec in specs}
    groups = list(dict.fromkeys(baselines.values()))

    def place(row: Row) -> tuple:
        score = -row.ap["3d"][MAP].mean if row.ap else 0.0
        return (row.name != TEACHER, groups.index(baselines[row.name]), not row.ap, score)

    return sorted(rows, key=place)


def _of_row(spec: RowSpec, outcomes: Mapping[str, Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes.values() if outcome.run.row.name == spec.name]


def _mean_map(outcomes: Sequence[Outcome], split: str) -> float | None:
    """Mean 3D mAP of the finished runs of a row."""
    values = [
        mean_ap(outcome.ap[split], "3d") for outcome in outcomes if outcome.status == FINISHED
    ]
    return statistics.fmean(values) if values else None


def _row(
    plan: StudyPlan,
    spec: RowSpec,
    outcomes: Sequence[Outcome],
    split: str,
    means: Mapping[str, float | None],
    on_gpu: bool,
    measured: Mapping[str, float],
    equal: Mapping[str, Any] | None,
) -> Row:
    done = [outcome for outcome in outcomes if outcome.status == FINISHED]
    failures = [
        f"seed {each.run.seed}: {each.reason}"
        for each in outcomes
        if each.status in (FAILED, BLOCKED)
    ]
    still = [
        f"seed {each.run.seed}: {each.status}{', ' + each.reason if each.reason else ''}"
        for each in outcomes
        if each.status not in (FINISHED, FAILED, BLOCKED)
    ]
    costs = [seconds(each.cost, on_gpu) for each in done if each.cost is not None]
    note = ""
    if equal is not None:
        note = (
            f"epochs chosen so that {equal['epoch_s']} s an epoch come to the {equal['target_s']} s of "
            f"{' + '.join(spec.equal_compute_of)}"
        )
    return Row(
        spec.name,
        spec.title or spec.name,
        spec.config,
        dict(spec.settings),
        len(done),
        len(spec.seeds),
        plan.epochs(spec),
        spread_of_ap([each.ap[split] for each in done]),
        Spread.of(costs),
        _gap(spec, means),
        failures,
        still,
        measured,
        note,
    )


def spread_of_ap(
    results: Sequence[Mapping[str, Mapping[str, float]]],
) -> dict[str, dict[str, Spread]]:
    """Spread of every class and of the mAP, by metric, over the runs of a row; empty when there are none."""
    if not results:
        return {}
    spreads: dict[str, dict[str, Spread]] = {}
    for metric in METRICS:
        columns = {name: [ap[metric][name] for ap in results] for name in results[0][metric]}
        columns[MAP] = [mean_ap(ap, metric) for ap in results]
        spreads[metric] = {
            name: spread for name, values in columns.items() if (spread := Spread.of(values))
        }
    return spreads


def _gap(spec: RowSpec, means: Mapping[str, float | None]) -> float | None:
    """The share of the way from the baseline to the teacher that a row goes; None where one of the three is missing."""
    own, teacher = means.get(spec.name), means.get(TEACHER)
    baseline = means.get(spec.baseline) if spec.baseline else None
    if own is None or teacher is None or baseline is None or teacher == baseline:
        return None
    return (own - baseline) / (teacher - baseline)


def _setting(plan: StudyPlan, split: str, on_gpu: bool) -> str:
    """Data and units in a few sentences."""
    frames = plan.spec.data.frames
    data = (
        ""
        if frames is None
        else (
            f"{frames['train']} training frames"
            + (f", {frames['unlabelled']} without labels" if frames["unlabelled"] else "")
            + f"; evaluated on {frames[split]} frames of the split '{split}', "
            f"simulated with seed {plan.spec.data.seed}. "
        )
    )
    unit = "seconds on the clock" if on_gpu else "processor seconds, with one thread"
    return (
        f"{data}AP: KITTI moderate, R40; mAP: mean over classes; +-: standard deviation over the seeds (n - 1). "
        f"Gap: the way of the 3D mAP from the baseline (0 %) to the teacher (100 %). Training: {unit}, that of the "
        "teacher not included. Difference: of runs of the same seed, over the seeds that both rows have. GFLOPs: "
        "1e9 multiply-adds of one frame."
    )


Lines = list[list[str]]  # cells of a header, then of each row


def main_lines(table: Table, sign: str = "+-") -> Lines:
    """What each row took and reached; a dash for what is not known."""
    lines = [
        [
            "row",
            "seeds",
            "epochs",
            "train s",
            "params",
            "GFLOPs",
            "latency",
            "BEV mAP",
            "3D mAP",
            "gap",
        ]
    ]
    for row in table.rows:
        measured = row.measured
        lines.append(
            [
                row.title,
                str(row.seeds) if row.seeds == row.planned else f"{row.seeds}/{row.planned}",
                "-" if row.epochs is None else str(row.epochs),
                "-"
                if row.train_s is None
                else row.train_s.text(0 if row.train_s.mean >= 10 else 1, sign),
                human_count(int(measured["parameters"])) if "parameters" in measured else "-",
                f"{measured['gflops']:.2f}" if "gflops" in measured else "-",
                f"{measured['latency_ms']:.0f} ms" if "latency_ms" in measured else "-",
                *(_ap_text(row, metric, MAP, sign) for metric in METRICS),
                "-" if row.gap is None else f"{100 * row.gap:.0f} %",
            ]
        )
    return lines


def class_lines(table: Table, sign: str = "+-") -> Lines:
    """AP of every class, of the rows that have any."""
    kinds = [
        (title, metric, name)
        for title, metric in (("3D", "3d"), ("BEV", "bev"))
        for name in table.class_names
    ]
    return [
        ["row", *(f"{title} {name}" for title, _, name in kinds)],
        *(
            [row.title, *(_ap_text(row, metric, name, sign) for _, metric, name in kinds)]
            for row in table.rows
            if row.ap
        ),
    ]


def comparison_lines(table: Table, kind: str, sign: str = "+-") -> Lines:
    """The comparisons of a kind for which both rows have results, the largest difference first."""
    shown = sorted(
        (each for each in table.comparisons if each.kind == kind and each.difference),
        key=lambda each: -each.difference.mean if each.difference else 0.0,
    )
    if kind == LEFT_OUT:  # the parts of a row stand together
        shown.sort(key=lambda each: [row.name for row in table.rows].index(each.row))
    titles = {
        EQUAL_EPOCHS: ["row", "epochs", "3D mAP", "against", "its 3D mAP", "difference", "seeds"],
        EQUAL_COMPUTE: [
            "row",
            "train s",
            "3D mAP",
            "against",
            "its epochs",
            "its train s",
            "its 3D mAP",
            "difference",
            "seeds",
        ],
        LEFT_OUT: [
            "row",
            "3D mAP",
            "without",
            "is the row",
            "its 3D mAP",
            "what the part adds",
            "seeds",
        ],
    }
    return [titles[kind], *(_comparison(table, each, sign) for each in shown)]


def _comparison(table: Table, each: Comparison, sign: str) -> list[str]:
    row, other = table.row(each.row), table.row(each.other)
    score, its_score = (_ap_text(side, "3d", MAP, sign) for side in (row, other))
    took, its_took = (
        "-" if side.train_s is None else side.train_s.text(0, sign) for side in (row, other)
    )
    first = {
        EQUAL_EPOCHS: [str(row.epochs), score, other.title, its_score],
        EQUAL_COMPUTE: [took, score, other.title, str(other.epochs), its_took, its_score],
        LEFT_OUT: [score, each.part, other.title, its_score],
    }[each.kind]
    assert each.difference is not None
    return [row.title, *first, each.difference.text(1, sign, "+"), str(len(each.difference.values))]


def _ap_text(row: Row, metric: str, name: str, sign: str) -> str:
    if not row.ap:
        return "FAILED" if row.failures and not row.open else "-"
    return row.ap[metric][name].text(1, sign)


def sections(table: Table, sign: str = "+-") -> list[tuple[str, Lines]]:
    """All parts of a table that have lines, with their titles."""
    titles = {
        EQUAL_EPOCHS: "Against the baseline at equal epochs",
        EQUAL_COMPUTE: "At equal compute",
        LEFT_OUT: "What each part adds: one left out",
    }
    parts = [
        ("All rows", main_lines(table, sign)),
        *((title, comparison_lines(table, kind, sign)) for kind, title in titles.items()),
        ("By class", class_lines(table, sign)),
    ]
    return [(title, lines) for title, lines in parts if len(lines) > 1]


def remarks(table: Table) -> list[str]:
    """What the numbers do not say: failures with their reasons, runs to come, epochs of equal compute."""
    lines = [f"FAILED {row.title}, {text}" for row in table.rows for text in row.failures]
    lines += [f"to come: {row.title}, {text}" for row in table.rows for text in row.open]
    return lines + [f"{row.title}: {row.note}" for row in table.rows if row.note]


def to_text(table: Table) -> str:
    """For a terminal."""
    text = [f"study {table.study}, split {table.split}", ""]
    for title, lines in sections(table):
        widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
        rows = [
            "  ".join(
                cell.rjust(width) if number else cell.ljust(width)
                for number, (cell, width) in enumerate(zip(line, widths))
            ).rstrip()
            for line in lines
        ]
        text += [title, rows[0], "-" * max(map(len, rows)), *rows[1:], ""]
        if title == "All rows":
            text += [*remarks(table), ""] if remarks(table) else []
    return "\n".join([*text, table.setting]) + "\n"


Links = Mapping[str, tuple[str, Mapping[int, str]]]


def to_markdown(table: Table, links: Links | None = None) -> str:
    """For a repository; ``links`` by row: where its yaml and each seed's metrics are, from the page's folder."""
    text = [f"## {table.study}: split `{table.split}`", ""]
    for title, lines in sections(table, "±"):
        if title == "All rows":
            lines = [
                lines[0],
                *(_linked(line, row, links or {}) for line, row in zip(lines[1:], table.rows)),
            ]
        text += [f"### {title}", "", *markdown_lines(lines), ""]
        if title == "All rows":
            text += [*(f"* {line}" for line in remarks(table)), ""] if remarks(table) else []
    return "\n".join([*text, table.setting.replace("+-", "±")]) + "\n"


def markdown_lines(lines: Lines) -> list[str]:
    """A table of markdown, numbers to the right."""
    return [
        "| " + " | ".join(lines[0]) + " |",
        "|---|" + "---:|" * (len(lines[0]) - 1),
        *("| " + " | ".join(line) + " |" for line in lines[1:]),
    ]


def _linked(line: list[str], row: Row, links: Links) -> list[str]:
    if row.name not in links:
        return line
    config, metrics = links[row.name]
    seeds = " ".join(f"[{seed}]({link})" for seed, link in metrics.items())
    return [f"[{row.title}]({config})", f"{line[1]} ({seeds})", *line[2:]]


def to_plain(table: Table) -> dict[str, Any]:
    """For programs: everything, the value of each seed included."""
    return asdict(table)
