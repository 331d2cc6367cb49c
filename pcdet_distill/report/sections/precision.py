"""Tables of AP, precision over recall, and AP by distance and by number of points."""

from __future__ import annotations

from collections.abc import Sequence

from ...texts import plural
from ..page import Html, details, figure, heading, join, paragraph, row, section, table
from ..plots import Bars, Line, bar_plot, line_plot
from ..record import ApTable, Division, PrecisionCurve
from ..view import View, class_order, difference_text, number_text

DIVISIONS = {
    "distance": (
        "AP by distance",
        "Objects are divided by their distance from the sensor. A wrong detection counts against "
        "the part that it lies in itself.",
    ),
    "points": (
        "AP by number of points",
        "Objects are divided by the number of their points. A wrong detection has no object, so it "
        "counts against every part: sparse parts look worse than they are.",
    ),
}
LONGEST_TITLE = 32  # of a row of differences; above it stands "difference"
DIVISION_UNITS = {"distance": "m", "points": "points"}
DIVISION_LABELS = {"distance": "distance, m", "points": "points in the box"}
LIDAR_RULE = (
    "Matched in LiDAR coordinates at the first IoU threshold of each class, whatever the rules of "
    "the tables above; AP is the exact area under the curve."
)


def tables(views: Sequence[View]) -> Html:
    """Every table of the first model, with the rows of the others where they have it too."""
    parts = []
    for number, own in enumerate(views[0].record.tables):
        others = [_table_of(view, own) for view in views]
        shown = [(view, each) for view, each in zip(views, others) if each is not None]
        content = _single(own) if len(shown) == 1 else _side_by_side(shown)
        block = join(heading(own.title), paragraph(own.about, kind="pale"), content)
        parts.append(block if number < 2 else details(own.title, block))
    return section("Average precision", *parts)


def _table_of(view: View, like: ApTable) -> ApTable | None:
    """The table of a model that has the same columns as ``like``."""
    same = [each for each in view.record.tables if each.header == like.header]
    titled = [each for each in same if each.title == like.title]
    return next(iter(titled or same), None)


def _single(content: ApTable) -> Html:
    rows = [[number_text(cell) for cell in line] for line in content.rows]
    return table(content.header, rows, total_rows=content.num_totals)


def _side_by_side(shown: Sequence[tuple[View, ApTable]]) -> Html:
    """For each class a line of every model; with two, the second minus the first too."""
    header = [shown[0][1].header[0], "model", *shown[0][1].header[1:]]
    rows = []
    for line in shown[0][1].rows:
        name = str(line[0])
        own_lines = []
        for view, content in shown:
            found = [each for each in content.rows if each[0] == name]
            if found:
                own_lines.append((view.label, found[0]))
        for number, (label, cells) in enumerate(own_lines):
            rows.append(["" if number else name, label, *map(number_text, cells[1:])])
        if len(own_lines) == 2:
            pairs = zip(own_lines[1][1][1:], own_lines[0][1][1:])
            title = f"{own_lines[1][0]} − {own_lines[0][0]}"
            if len(title) > LONGEST_TITLE:
                title = "difference"
            rows.append(["", title, *(difference_text(a, b) for a, b in pairs)])
    return table(header, rows)


def curves(views: Sequence[View]) -> Html:
    """One plot for each class and criterion, the models over one another."""
    figures = []
    for name in class_order(views):
        for criterion in _criteria(views, name):
            figures.append(_curve_figure(views, name, criterion))
    if not figures:
        return Html("")
    first = next(view.record.curves[0] for view in views if view.record.curves)
    about = (
        "From the most confident detection (left) to all of them (right): how many objects are "
        f"found, and how many detections are right. {first.about}"
    )
    return section("Precision and recall", row(*figures), about=about)


def _criteria(views: Sequence[View], class_name: str) -> list[str]:
    found: dict[str, None] = {}
    for view in views:
        own = [each.criterion for each in view.record.curves if each.class_name == class_name]
        found.update(dict.fromkeys(own))
    return list(found)


def _curve_figure(views: Sequence[View], name: str, criterion: str) -> Html:
    lines = []
    counts: dict[str, None] = {}  # an ordered set: one text where all have as many objects
    for number, view in enumerate(views):
        for curve in _matching(view, name, criterion):
            lines.append(_line(curve, f"{view.label}: AP {curve.ap:.2f}", number))
            counts[plural(curve.num_objects, "object")] = None
    about = ", ".join(counts)
    if len(lines) == 1:  # one line has no legend
        about = f"{lines[0].name.removeprefix(f'{views[0].label}: ')} ({about})"
    plot = line_plot(
        lines,
        x_label="recall, %",
        y_label="precision, %",
        about=f"Precision over recall of {name}, {criterion}",
        x_range=(0, 100),
        y_range=(0, 100),
    )
    return figure(plot, about, title=f"{name}, {criterion}")


def _matching(view: View, name: str, criterion: str) -> list[PrecisionCurve]:
    return [
        curve
        for curve in view.record.curves
        if curve.class_name == name and curve.criterion == criterion
    ]


def _line(curve: PrecisionCurve, label: str, number: int) -> Line:
    recall = [100 * value for value in curve.recall]
    precision = [100 * value for value in curve.precision]
    titles = [f"recall {r:.1f} %, precision {p:.1f} %" for r, p in zip(recall, precision)]
    return Line(label, recall, precision, colour=number, titles=titles)


def divisions(views: Sequence[View]) -> Html:
    """Bars of AP by distance and by number of points, for each class."""
    parts = []
    for by, (title, about) in DIVISIONS.items():
        figures = []
        for name in class_order(views):
            chosen = [_division(view, name, by) for view in views]
            if any(each is not None for each in chosen):
                figures.append(_division_figure(views, chosen, name))
        if figures:
            parts.append(join(heading(title), paragraph(about, kind="pale"), row(*figures)))
    rules = (view.record.division_rule for view in views)
    about = f"{LIDAR_RULE} {next(filter(None, rules), '')}"
    return section("Near and far, dense and sparse", *parts, about=about.strip())


def _division(view: View, class_name: str, by: str) -> Division | None:
    own = (each for each in view.record.divisions if each.class_name == class_name)
    return next((each for each in own if each.by == by), None)


def _division_figure(
    views: Sequence[View], divisions: Sequence[Division | None], name: str
) -> Html:
    first = next(each for each in divisions if each is not None)
    series = []
    for number, (view, division) in enumerate(zip(views, divisions)):
        if division is not None and division.labels == first.labels:
            titles = [
                f"{label}: AP {number_text(ap)}, recall {number_text(recall)}"
                for label, ap, recall in zip(division.labels, division.ap, division.recall)
            ]
            spreads = division.spread or None
            series.append(Bars(view.label, division.ap, spreads, titles, colour=number))
    unit = DIVISION_UNITS[first.by]
    counts = [plural(count, "object") for count in first.num_objects]
    plot = bar_plot(
        [label.removesuffix(f" {unit}") for label in first.labels],
        series,
        y_label="AP, %",
        below=counts,
        about=f"AP of {name} by {first.by}",
        x_label=DIVISION_LABELS[first.by],
        y_range=(0, 100),
    )
    return figure(plot, title=f"{name}, {first.criterion}")
