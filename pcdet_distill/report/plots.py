"""Plots as SVG inside the page: lines, bars. They take the page's colours, light and dark.

A plot is 440 units wide and fills the width that it gets, so its text is as large on a phone. Lines
also differ by dashes, bars by their place, so nothing depends on colour alone. Pointing at a dot or
bar shows its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

from .page import Html

SERIES = 8  # colours s0 to s7 of page.css
DASHES = ("", "7 4", "2 4", "10 4 2 4", "", "7 4", "2 4", "10 4 2 4")
WIDTH, HEIGHT = 440.0, 280.0
WIDE = 760.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 14.0, 14.0, 46.0
LINE = 17.0  # from a line of text to the next
MOST_DOTS = 60  # dots to point at, along one line
MOST_POINTS = 400  # of a line, as many as the eye can tell apart in this width
WIDEST_BAR = 34.0
MOST_TICKS = 6  # parts that an axis is divided into
VALUE_WIDTH = 24.0  # of a number above its bar


@dataclass(frozen=True)
class Line:
    """One line of a plot.

    Args:
        name: in the legend; lines of one name share an entry.
        x, y: numbers; a gap is left where y is not finite.
        colour: number of its colour, 0 to 7; by default that of its place in the list.
        dash: number of its dashes; by default that of its colour.
        titles: what pointing at a dot shows; by default its numbers.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int | None = None
    dash: int | None = None
    titles: Sequence[str] | None = None


@dataclass(frozen=True)
class Bars:
    """The bars of one colour, one in each group.

    Args:
        name: in the legend.
        values: None where there is no bar.
        spreads: half the length of the mark at the end of each bar, such as a standard deviation.
        titles: what pointing at a bar shows; by default its value.
    """

    name: str
    values: Sequence[float | None]
    spreads: Sequence[float | None] | None = None
    titles: Sequence[str] | None = None
    colour: int | None = None


class Scale(NamedTuple):
    """Values from ``low`` to ``high`` on a stretch of the picture from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def place(self, value: float) -> float:
        """Where a value is in the picture."""
        low, high = self.low, self.high
        if self.is_log:
            low, high, value = math.log10(low), math.log10(high), math.log10(max(value, low))
        share = (value - low) / ((high - low) or 1.0)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values in the range."""
        if self.is_log:
            return _log_ticks(self.low, self.high)
        step = round_step((self.high - self.low) / MOST_TICKS)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


def round_step(at_least: float) -> float:
    """The smallest of 1, 2 or 5 times a power of ten that is not below ``at_least``."""
    if at_least <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(at_least))
    for factor in (1.0, 2.0, 5.0):
        if factor * power >= at_least * (1 - 1e-9):
            return factor * power
    return 10.0 * power


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten in the range; below two of them their doubles and halves too."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1.0,) if high / low > 100 else (1.0, 2.0, 5.0)
    every = -(-len(powers) // MOST_TICKS)
    ticks = []
    for power in powers[::every]:
        ticks += [factor * 10.0**power for factor in factors]
    return [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]


def short_number(value: float) -> str:
    """``0.25``, ``1200`` as ``1.2k``, ``0.00001`` as ``1e-05``: four characters where they do."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e6:
        return f"{value / 1e6:.3g}M"
    if size >= 10_000:
        return f"{value / 1e3:.3g}k"
    return f"{value:.3g}" if size < 1000 else f"{value:.0f}"


def line_plot(
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    about: str = "",
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    log_y: bool = False,
    wide: bool = False,
) -> Html:
    """Lines over a common axis, with a legend below where there is more than one.

    Args:
        about: what the plot shows, for readers who cannot see it.
        x_range, y_range: the ends of the axes; those of the data by default.
        log_y: logarithmic; values of 0 and below are gaps.
        wide: as wide as the page, for long runs.
    """
    width = WIDE if wide else WIDTH
    kept = [_finite(line, log_y) for line in lines]
    x_scale = Scale(
        *(x_range or _ends([p for line in kept for p, _, _ in line])), LEFT, width - RIGHT
    )
    y_values = [value for line in kept for _, value, _ in line]
    y_low, y_high = y_range or _rounded_ends(y_values, log_y)
    y_scale = Scale(y_low, y_high, HEIGHT - BOTTOM, TOP, log_y)
    parts = [_frame(x_scale, y_scale, x_label, y_label)]
    for number, (line, dots) in enumerate(zip(lines, kept)):
        parts.append(_line_svg(line, dots, _colour(line.colour, number), x_scale, y_scale))
    svg = _svg(width, HEIGHT, about or f"{y_label} over {x_label}", "".join(parts))
    return _plot(svg, _line_legend(lines), wide)


Dot = tuple[float, float, str]  # x, y, what pointing at it shows


def _finite(line: Line, log_y: bool) -> list[Dot]:
    """The dots of a line that can be drawn, as many as can be told apart."""
    dots = []
    for number, (x, y) in enumerate(zip(line.x, line.y)):
        if not (math.isfinite(x) and math.isfinite(y)) or (log_y and y <= 0):
            continue
        title = line.titles[number] if line.titles else f"{short_number(x)}: {short_number(y)}"
        dots.append((float(x), float(y), title))
    return thinned(dots, MOST_POINTS)


def thinned(dots: Sequence[Dot], most: int) -> list[Dot]:
    """Evenly chosen dots, with the first and the last."""
    if len(dots) <= most:
        return list(dots)
    step = (len(dots) - 1) / (most - 1)
    return [dots[round(number * step)] for number in range(most)]


def _ends(values: Sequence[float]) -> tuple[float, float]:
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _rounded_ends(values: Sequence[float], is_log: bool) -> tuple[float, float]:
    """The ends of the y axis: round numbers around the values, 0 included where it is near."""
    if is_log:  # a step of the same factor on both sides, also around a single value
        return (min(values) * 0.9, max(values) * 1.1) if values else (0.1, 1.0)
    low, high = _ends(values)
    if 0 < low < 0.4 * high:
        low = 0.0
    step = round_step((high - low) / 6)
    return math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step


def _frame(x_scale: Scale, y_scale: Scale, x_label: str, y_label: str) -> str:
    """Axes, grid, numbers and names."""
    parts = [_y_axis(y_scale, x_scale.start, x_scale.end, y_label)]
    bottom = y_scale.start
    for tick in x_scale.ticks():
        x = x_scale.place(tick)
        parts.append(f"<path class='grid' d='M{x:.1f} {bottom:.1f}V{y_scale.end:.1f}'/>")
        parts.append(_text(x, bottom + 17, short_number(tick), "tick", "middle"))
    middle = (x_scale.start + x_scale.end) / 2
    parts.append(f"<path class='axis' d='M{x_scale.start} {bottom}H{x_scale.end}'/>")
    parts.append(_text(middle, bottom + 37, x_label, "", "middle"))
    return "".join(parts)


def _y_axis(scale: Scale, left: float, right: float, label: str) -> str:
    parts = []
    for tick in scale.ticks():
        y = scale.place(tick)
        parts.append(f"<path class='grid' d='M{left} {y:.1f}H{right}'/>")
        parts.append(_text(left - 6, y + 4, short_number(tick), "tick", "end"))
    middle = (scale.start + scale.end) / 2
    parts.append(
        f"<text transform='translate(13 {middle:.1f}) rotate(-90)' text-anchor='middle'>"
        f"{escape(label)}</text>"
    )
    return "".join(parts)


def _line_svg(line: Line, dots: Sequence[Dot], colour: int, x_scale: Scale, y_scale: Scale) -> str:
    """The line, and over it invisible dots to point at."""
    places = [(x_scale.place(x), y_scale.place(y), title) for x, y, title in dots]
    path = "".join(f"{'L' if n else 'M'}{x:.1f} {y:.1f}" for n, (x, y, _) in enumerate(places))
    if len(places) == 1:  # a line of one point is a dot
        path += "h.1"
    dash = DASHES[colour if line.dash is None else line.dash % len(DASHES)]
    dashes = f" stroke-dasharray='{dash}'" if dash else ""
    hovers = "".join(
        f"<circle class='hover' r='7' cx='{x:.1f}' cy='{y:.1f}'>"
        f"<title>{escape(line.name)}, {escape(title)}</title></circle>"
        for x, y, title in thinned(places, MOST_DOTS)
    )
    return f"<g class='s{colour}'><path class='line'{dashes} d='{path}'/>{hovers}</g>"


def bar_plot(
    groups: Sequence[str],
    series: Sequence[Bars],
    *,
    y_label: str,
    below: Sequence[str] | None = None,
    about: str = "",
    x_label: str = "",
    y_range: tuple[float, float] | None = None,
) -> Html:
    """Bars side by side in each group, with their numbers above where there is room.

    Args:
        groups: names below the bars.
        below: a second line below each name, such as the number of objects.
        x_label: what the names are.
        y_range: by default from 0 to just above the highest bar.
    """
    width = max(WIDTH, LEFT + RIGHT + 18.0 * len(groups) * (len(series) + 0.7))
    values = [value for bars in series for value in bars.values if value is not None]
    x_scale = Scale(0, len(groups), LEFT, width - RIGHT)
    low, high = y_range or _rounded_ends([0.0, *values], False)
    floor = HEIGHT - BOTTOM - (LINE if below and x_label else 0)
    y_scale = Scale(low, high, floor, TOP)
    parts = [_y_axis(y_scale, LEFT, width - RIGHT, y_label)]
    for number, bars in enumerate(series):
        parts.append(_bars_svg(bars, number, len(series), x_scale, y_scale))
    zero = y_scale.place(max(low, 0.0))
    parts.append(f"<path class='axis' d='M{LEFT} {zero:.1f}H{width - RIGHT}'/>")
    for number, name in enumerate(groups):
        middle = x_scale.place(number + 0.5)
        parts.append(_text(middle, floor + LINE, name, "", "middle"))
        if below:
            parts.append(_text(middle, floor + 2 * LINE, below[number], "tick", "middle"))
    parts.append(_text((LEFT + width - RIGHT) / 2, HEIGHT - 9, x_label, "", "middle"))
    svg = _svg(width, HEIGHT, about or y_label, "".join(parts))
    entries = [(bars.name, _colour(bars.colour, n)) for n, bars in enumerate(series)]
    return _plot(svg, _bar_legend(entries), width > 1.5 * WIDTH)


def _bars_svg(bars: Bars, number: int, count: int, x_scale: Scale, y_scale: Scale) -> str:
    """The bars of one colour."""
    group_width = x_scale.place(1) - x_scale.place(0)
    step = min(WIDEST_BAR, 0.84 * group_width / count)
    zero = y_scale.place(max(y_scale.low, 0.0))
    parts = []
    for group, value in enumerate(bars.values):
        if value is None or not math.isfinite(value):
            continue
        middle = x_scale.place(group + 0.5) + (number + 0.5 - count / 2) * step
        top = y_scale.place(value)
        title = bars.titles[group] if bars.titles else f"{value:.1f}"
        parts.append(
            f"<rect class='bar' x='{middle - 0.45 * step:.1f}' y='{min(top, zero):.1f}' "
            f"width='{0.9 * step:.1f}' height='{abs(top - zero):.1f}'>"
            f"<title>{escape(bars.name)}, {escape(title)}</title></rect>"
        )
        spread = bars.spreads[group] if bars.spreads else None
        if spread:
            ends = y_scale.place(value + spread), y_scale.place(value - spread)
            parts.append(f"<path class='spread' d='M{middle:.1f} {ends[0]:.1f}V{ends[1]:.1f}'/>")
        elif step >= VALUE_WIDTH:
            parts.append(_text(middle, min(top, zero) - 4, f"{value:.1f}", "value", "middle"))
    return f"<g class='s{_colour(bars.colour, number)}'>{''.join(parts)}</g>"


def _colour(chosen: int | None, number: int) -> int:
    return (number if chosen is None else chosen) % SERIES


def _text(x: float, y: float, words: str, kind: str, anchor: str) -> str:
    style = f" class='{kind}'" if kind else ""
    return f"<text{style} x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}'>{escape(words)}</text>"


def _svg(width: float, height: float, about: str, content: str) -> str:
    return (
        f"<svg viewBox='0 0 {width:g} {height:g}' role='img' aria-label='{escape(about)}'>"
        f"{content}</svg>"
    )


def _plot(svg: str, legend: str, wide: bool) -> Html:
    return Html(f"<div class='plot{' wide' if wide else ''}'>{svg}{legend}</div>")


def _line_legend(lines: Sequence[Line]) -> str:
    """One entry for each name, drawn like its line."""
    entries: dict[str, str] = {}
    for number, line in enumerate(lines):
        colour = _colour(line.colour, number)
        dash = DASHES[colour if line.dash is None else line.dash % len(DASHES)]
        dashes = f" stroke-dasharray='{dash}'" if dash else ""
        drawn = f"<path class='line'{dashes} d='M1 6H29'/>"
        entries.setdefault(line.name, _legend_entry(line.name, colour, drawn))
    return _legend(list(entries.values()))


def colour_legend(entries: Sequence[tuple[str, int]]) -> Html:
    """What colours mean, for pictures: name and number of each."""
    return Html(_bar_legend(entries))


def _bar_legend(entries: Sequence[tuple[str, int]]) -> str:
    drawn = "<rect class='bar' x='6' y='0' width='18' height='12'/>"
    return _legend([_legend_entry(name, colour, drawn) for name, colour in entries])


def _legend_entry(name: str, colour: int, drawn: str) -> str:
    mark = f"<svg class='s{colour}' viewBox='0 0 30 12' aria-hidden='true'>{drawn}</svg>"
    return f"<span>{mark}{escape(name)}</span>"


def _legend(entries: Sequence[str]) -> str:
    return f"<div class='legend'>{''.join(entries)}</div>" if len(entries) > 1 else ""
