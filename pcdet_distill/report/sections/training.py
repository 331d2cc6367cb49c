"""Losses by term, what the terms of a distillation watch, the learning rate, and the cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from ..page import Html, details, figure, heading, join, note, paragraph, preformatted, row, section
from ..plots import Line, line_plot
from ..training_log import Series, TrainingLog
from ..view import View

DEAD = ("dead_teacher", "dead_student")
MOST_DEAD = 0.5  # share of constant channels from which an adapter has collapsed
MOST_LINES = 7  # in one plot
# What the watched values are, by the end of their names.
HEALTH = {
    "dead_teacher": "share of the teacher's adapter channels that are constant; 0 is healthy, "
    "above one half the loss can fall without anything being learnt",
    "dead_student": "the same for the student's adapter",
    "entropy": "how evenly the weights of the nodes are spread: 1 is uniform, near 0 a few nodes "
    "have all the weight",
    "weight": "the factor of this loss in the sum; it follows WEIGHT of the yaml",
    "share": "length of this loss's gradient over that of the detection loss, at the shared "
    "features; it should stay near WEIGHT.SHARE of the yaml",
    "positions": "positions of a batch that are compared: where the teacher finds objects. At 0 "
    "the loss teaches nothing",
    "objects": "labelled objects of a batch that are compared",
    "boxes": "labelled objects of a batch that are compared",
    "missed": "proposals of a batch that the teacher scores higher than the student",
    "surplus": "proposals of a batch that the student scores higher than the teacher",
    "found": "share of the nodes whose partner the student picks out among all; it should rise",
    "occupied": "share of the teacher's cells that hold something",
    "unlabelled": "frames of a batch without labels, which learn from the teacher alone",
    "added": "boxes of the teacher that were added to the labels of a batch",
}
SHARES = ("_dead_teacher", "_dead_student", "_entropy", "_share", "_found", "_occupied")
PART_OF_LOSS = "a part of this loss, without the weights of its options; it should fall"
PARTS = (
    "logit",
    "box",
    "nodes",
    "relations",
    "attention",
    "masked",
    "nonlocal",
    "compressed",
    "interchange",
)


def losses(views: Sequence[View]) -> Html:
    """The curves of a training; with two models each term over the other's."""
    known = [view for view in views if view.training is not None]
    if not known:
        return Html("")
    content = _one_training(known[0]) if len(known) == 1 else _two_trainings(views)
    return section(
        "Losses",
        content,
        about="Each dot is the mean since the one before. The vertical axis is logarithmic.",
    )


def _one_training(view: View) -> Html:
    assert view.training is not None
    series = view.training.losses
    names = list(series)
    groups = [names[start : start + MOST_LINES] for start in range(0, len(names), MOST_LINES)]
    figures = []
    for group in groups:
        lines = [_line(term_name(name), series[name]) for name in group]
        figures.append(figure(_log_plot(lines, wide=True), _last_values(series, group)))
    return join(*figures, _others(view))


def _last_values(series: Mapping[str, Series], names: Sequence[str]) -> str:
    words = [f"{term_name(name)} {series[name].last:.3g}" for name in names]
    return f"At the end: {', '.join(words)}."


def term_name(name: str) -> str:
    """``distill_graph`` as ``DISTILL graph``: what a teacher adds stands out."""
    if name == "loss":
        return "sum"
    return f"DISTILL {name.removeprefix('distill_')}" if name.startswith("distill_") else name


def _two_trainings(views: Sequence[View]) -> Html:
    """One plot for each term, with a line for each training that has it."""
    figures = []
    for name, lines in _lines_by_name(views, lambda training: training.losses).items():
        figures.append(figure(_log_plot(lines), _only(lines, views), title=term_name(name)))
    return row(*figures)


def _only(lines: Sequence[Line], views: Sequence[View]) -> str:
    """Whose line it is, where a plot has one and the page has several models."""
    return f"Only {lines[0].name}." if len(lines) == 1 and len(views) > 1 else ""


def _lines_by_name(
    views: Sequence[View], read: Callable[[TrainingLog], Mapping[str, Series]]
) -> dict[str, list[Line]]:
    """What ``read`` finds in the log of each training, by name; a colour for each training."""
    lines: dict[str, list[Line]] = {}
    for number, view in enumerate(views):
        found = read(view.training) if view.training else {}
        for name, series in found.items():
            lines.setdefault(name, []).append(_line(view.label, series, colour=number))
    return lines


def _line(name: str, series: Series, colour: int | None = None) -> Line:
    return Line(name, series.its, series.values, colour=colour)


def _log_plot(lines: Sequence[Line], wide: bool = False) -> Html:
    return line_plot(lines, x_label="iteration", y_label="loss", log_y=True, wide=wide)


def _others(view: View) -> Html:
    """Learning rate, norm of the gradient, time of a step: folded."""
    assert view.training is not None
    titles = {"lr": "learning rate", "grad_norm": "norm of the gradient", "step_ms": "step, ms"}
    figures = []
    for key, title in titles.items():
        if key in view.training.others:
            line = _line(title, view.training.others[key])
            plot = line_plot([line], x_label="iteration", y_label=title)
            figures.append(figure(plot, title=title))
    return (
        details("learning rate, gradient, time of a step", row(*figures)) if figures else Html("")
    )


def health(views: Sequence[View]) -> Html:
    """What the terms of DISTILL watch: a plot for each value, and a warning where one is bad."""
    lines_by_name = _lines_by_name(views, lambda training: training.health)
    if not lines_by_name:
        return Html("")
    figures = []
    for name, lines in lines_by_name.items():
        is_share = _is_share(name, lines)
        plot = line_plot(
            lines,
            x_label="iteration",
            y_label=_unit(name, is_share),
            y_range=(0.0, 1.0) if is_share else None,
        )
        caption = " ".join(words for words in (_meaning(name), _only(lines, views)) if words)
        figures.append(figure(plot, caption, title=_watched_name(name)))
    return section(
        "State of the adapters and nodes",
        _collapsed(views),
        row(*figures),
        about="What each term of DISTILL measures about itself while it trains. The loss that it "
        "adds is in the section above.",
    )


def _watched_name(name: str) -> str:
    """``logit_box_positions`` as ``LOGIT_BOX: positions``, the term as the yaml writes it."""
    ends = sorted([*HEALTH, *PARTS], key=len, reverse=True)
    for end in ends:
        if name.endswith(f"_{end}"):
            return f"{name.removesuffix(f'_{end}').upper()}: {end.replace('_', ' ')}"
    return name.replace("_", " ")


def _is_share(name: str, lines: Sequence[Line]) -> bool:
    """Whether the values are shares of a whole. A factor or a loss may also lie in 0..1."""
    if not name.endswith(SHARES):
        return False
    values = [value for line in lines for value in line.y if math.isfinite(value)]
    return bool(values) and min(values) >= 0 and max(values) <= 1


def _unit(name: str, is_share: bool) -> str:
    """The label of the axis."""
    if is_share:
        return "share"
    return "factor" if name.endswith("_weight") else "value"


def _meaning(name: str) -> str:
    meanings = {**HEALTH, **dict.fromkeys(PARTS, PART_OF_LOSS)}
    found = [words for end, words in meanings.items() if name.endswith(f"_{end}")]
    return found[0][0].upper() + found[0][1:] + "." if found else ""


def _collapsed(views: Sequence[View]) -> Html:
    """A sentence for each adapter that has collapsed, or one that none has."""
    notes = []
    num_watched = 0
    for view in views:
        for name, series in (view.training.health if view.training else {}).items():
            if not name.endswith(DEAD):
                continue
            num_watched += 1
            if series.last > MOST_DEAD:
                notes.append(
                    note(
                        f"{view.label}: at the end {100 * series.last:.0f} % of the channels of "
                        f"'{name}' are constant. The adapter has collapsed, so this loss teaches "
                        "little; TEACHER_ADAPTER: frozen avoids it.",
                        "bad",
                    )
                )
    if notes or not num_watched:
        return join(*notes)
    return paragraph("No adapter has collapsed: fewer than half of their channels are constant.")


def setup(views: Sequence[View]) -> Html:
    """Command and yaml of each model."""
    parts = []
    for view in views:
        record = view.record
        if record.command or record.config:
            parts += [
                heading(view.label) if len(views) > 1 else Html(""),
                preformatted(record.command) if record.command else Html(""),
                details("the whole yaml", preformatted(record.config))
                if record.config
                else Html(""),
            ]
    return section("How it was made", *parts)
