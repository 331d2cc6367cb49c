"""The tables of a study as text for a terminal and as markdown for a repository."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ....report.comparison import METRICS, aligned, human_count
from .comparisons import EQUAL_COMPUTE, EQUAL_EPOCHS, LEFT_OUT, Comparison
from .shown_text import shown_lines
from .spread import Spread
from .table import MAP, Row, Table

Lines = list[list[str]]  # the cells of a header, then of each row
ALL_ROWS = "All rows"
WHAT_IS_SHOWN = "What is shown: differences of the 3D mAP with standard errors"
COMPARISON_TITLES = {
    EQUAL_EPOCHS: "Against the baseline at equal epochs",
    EQUAL_COMPUTE: "At equal compute",
    LEFT_OUT: "What each part adds: one left out",
}
HEADERS = {
    EQUAL_EPOCHS: "row, epochs, 3D mAP, baseline, its 3D mAP, difference, seeds",
    EQUAL_COMPUTE: (
        "row, train s, 3D mAP, against, its epochs, its train s, its 3D mAP, difference, seeds"
    ),
    LEFT_OUT: "row, 3D mAP, part, row without it, its 3D mAP, the part adds, seeds",
}
TRAIN, COUNTED = "train s", "counted s"
MAIN_HEADER = "row, seeds, epochs, train s, params, GFLOPs, latency, BEV mAP, 3D mAP, gap closed"


def main_lines(table: Table, sign: str = "+-") -> Lines:
    """Cost and result of each row; a dash for what is not known."""
    header = MAIN_HEADER.split(", ")
    is_counted = any(row.counted_s is not None for row in table.rows)
    if is_counted:
        header.insert(header.index(TRAIN) + 1, COUNTED)
    lines = [header]
    for row in table.rows:
        seeds = str(row.seeds) if row.seeds == row.planned else f"{row.seeds}/{row.planned}"
        cells = [row.title, seeds, "-" if row.epochs is None else str(row.epochs)]
        cells.append(_train_text(row.train_s, sign))
        if is_counted:
            counted = None if row.counted_s is None else Spread.of([row.counted_s])
            cells.append(_train_text(counted, sign))
        cells += _cost_texts(row)
        cells += [_ap_text(row, metric, MAP, sign) for metric in METRICS]
        cells.append("-" if row.gap is None else f"{100 * row.gap:.0f} %")
        lines.append(cells)
    return lines


def _train_text(train_s: Spread | None, sign: str) -> str:
    if train_s is None:
        return "-"
    return train_s.text(0 if train_s.mean >= 10 else 1, sign)


def _cost_texts(row: Row) -> list[str]:
    """Parameters, GFLOPs and latency."""
    measured = row.measured
    parameters = human_count(measured["parameters"]) if "parameters" in measured else "-"
    gflops = f"{measured['gflops']:.2f}" if "gflops" in measured else "-"
    latency = f"{measured['latency_ms']:.0f} ms" if "latency_ms" in measured else "-"
    return [parameters, gflops, latency]


def class_lines(table: Table, sign: str = "+-") -> Lines:
    """AP of every class, of the rows that have any."""
    titles = {"3d": "3D", "bev": "BEV"}
    header = ["row"]
    for title in titles.values():
        header += [f"{title} {name}" for name in table.class_names]
    lines = [header]
    for row in table.rows:
        if row.ap:
            cells = [row.title]
            for metric in titles:
                cells += [_ap_text(row, metric, name, sign) for name in table.class_names]
            lines.append(cells)
    return lines


def comparison_lines(table: Table, kind: str, sign: str = "+-") -> Lines:
    """The comparisons of a kind for which both rows have results, the largest difference first."""
    compared = []
    for comparison in table.comparisons:
        if comparison.kind == kind and comparison.difference is not None:
            compared.append((comparison, comparison.difference))
    compared.sort(key=lambda pair: -pair[1].mean)
    if kind == LEFT_OUT:  # the parts of a row stand together
        order = [row.name for row in table.rows]
        compared.sort(key=lambda pair: order.index(pair[0].row))
    lines = [HEADERS[kind].split(", ")]
    for comparison, difference in compared:
        cells = _comparison_cells(table, comparison, sign)
        lines.append([*cells, difference.text(1, sign, "+"), str(len(difference.values))])
    return lines


def _comparison_cells(table: Table, comparison: Comparison, sign: str) -> list[str]:
    """The cells of a comparison before its difference."""
    row = table.row(comparison.row)
    other = table.row(comparison.other)
    score = _ap_text(row, "3d", MAP, sign)
    other_score = _ap_text(other, "3d", MAP, sign)
    if comparison.kind == LEFT_OUT:
        return [row.title, score, comparison.part, other.title, other_score]
    if comparison.kind == EQUAL_EPOCHS:
        return [row.title, str(row.epochs), score, other.title, other_score]
    train = "-" if row.train_s is None else row.train_s.text(0, sign)
    other_train = "-" if other.train_s is None else other.train_s.text(0, sign)
    cells = [row.title, train, score]
    return [*cells, other.title, str(other.epochs), other_train, other_score]


def _ap_text(row: Row, metric: str, name: str, sign: str) -> str:
    if row.ap:
        return row.ap[metric][name].text(1, sign)
    return "FAILED" if row.failures and not row.pending else "-"


def sections(table: Table, sign: str = "+-") -> list[tuple[str, Lines]]:
    """All parts of a table that have rows, with their titles."""
    titles = {row.name: row.title for row in table.rows}
    parts = [(ALL_ROWS, main_lines(table, sign))]
    parts.append((WHAT_IS_SHOWN, shown_lines(table.shown, titles, table.splits, sign)))
    for kind, title in COMPARISON_TITLES.items():
        parts.append((title, comparison_lines(table, kind, sign)))
    parts.append(("By class", class_lines(table, sign)))
    return [(title, lines) for title, lines in parts if len(lines) > 1]


def remarks(table: Table) -> list[str]:
    """What stands below the rows: warnings, failures, runs to come, notes on epochs and cost."""
    lines = list(table.warnings)
    for row in table.rows:
        lines += [f"FAILED {row.title}, {text}" for text in row.failures]
    for row in table.rows:
        lines += [f"to come: {row.title}, {text}" for text in row.pending]
    lines += [f"{row.title}: {row.note}" for row in table.rows if row.note]
    return lines


def to_text(table: Table) -> str:
    """For a terminal."""
    text = [f"study {table.study}, split {table.split}", ""]
    for title, lines in sections(table):
        text += [title, *aligned(lines), ""]
        if title == ALL_ROWS and remarks(table):
            text += [*remarks(table), ""]
    return "\n".join([*text, table.setting]) + "\n"


def to_markdown(table: Table, links: Mapping[str, str] | None = None) -> str:
    """For a repository.

    Args:
        links: by row name, where its yaml is, seen from the page's folder.
    """
    text = [f"## Split `{table.split}`", ""]
    for title, lines in sections(table, "±"):
        if title == ALL_ROWS:
            _link_rows(lines, table.rows, links or {})
        text += [f"### {title}", "", *markdown_lines(lines), ""]
        if title == ALL_ROWS and remarks(table):
            text += [*(f"* {line}" for line in remarks(table)), ""]
    return "\n".join([*text, table.setting.replace("+-", "±")]) + "\n"


def _link_rows(lines: Lines, rows: Sequence[Row], links: Mapping[str, str]) -> None:
    for line, row in zip(lines[1:], rows):
        if row.name in links:
            line[0] = f"[{row.title}]({links[row.name]})"


def markdown_lines(lines: Lines) -> list[str]:
    """A markdown table, numbers to the right."""
    header, *rows = ["| " + " | ".join(line) + " |" for line in lines]
    rule = "|---|" + "---:|" * (len(lines[0]) - 1)
    return [header, rule, *rows]
