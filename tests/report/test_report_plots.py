"""SVG plots: values stand where they belong, gaps stay gaps, legends and titles name everything."""

from __future__ import annotations

import re

import pytest
from page_reader import read_page

from pcdet_distill.report.plots import (
    MOST_POINTS,
    Bars,
    Line,
    Scale,
    bar_plot,
    line_plot,
    round_step,
    short_number,
    thinned,
)


def line_places(html: str) -> list[list[tuple[float, float]]]:
    """The corners of each drawn line."""
    paths = re.findall(r"class='line'[^>]* d='(M[^']*)'", html.split("<div class='legend'")[0])
    pairs = [re.findall(r"[ML]([-\d.]+) ([-\d.]+)", path) for path in paths]
    return [[(float(x), float(y)) for x, y in one] for one in pairs]


def test_a_line_is_drawn_to_scale():
    html = line_plot(
        [Line("a", [0, 5, 10], [0.0, 25.0, 100.0])],
        x_label="x",
        y_label="y",
        x_range=(0, 10),
        y_range=(0, 100),
    )
    ((x0, y0), (x1, y1), (x2, y2)) = line_places(html)[0]
    assert (x1 - x0) / (x2 - x0) == pytest.approx(0.5, abs=0.002)
    assert (y1 - y0) / (y2 - y0) == pytest.approx(0.25, abs=0.002)
    assert y2 < y0  # up is more


def test_a_logarithmic_axis_has_equal_steps_for_equal_factors():
    html = line_plot(
        [Line("a", [0, 1, 2], [0.01, 1.0, 100.0])], x_label="x", y_label="y", log_y=True
    )
    (_, first), (_, second), (_, third) = line_places(html)[0]
    assert first - second == pytest.approx(second - third, abs=0.2)


@pytest.mark.parametrize("log_y", [False, True])
def test_values_that_are_not_finite_are_left_out(log_y):
    line = Line("a", [0, 1, 2, 3], [1.0, float("nan"), float("inf"), 2.0])
    html = line_plot([line], x_label="x", y_label="y", log_y=log_y)
    assert len(line_places(html)[0]) == 2
    assert "nan" not in html and "inf" not in html


def test_nothing_to_draw_is_still_a_plot():
    constant = [Line("a", [1.0, 2.0], [0.5, 0.5])]
    for lines in ([], [Line("a", [], [])], [Line("a", [1.0], [5.0])], constant):
        for log_y in (False, True):
            reader = read_page(line_plot(lines, x_label="x", y_label="y", log_y=log_y))
            assert reader.count("svg") == 1


def test_every_line_has_a_legend_entry_and_titles():
    html = line_plot(
        [Line("A<b", [0, 1], [0, 1]), Line("B", [0, 1], [1, 0])], x_label="x", y_label="y"
    )
    reader = read_page(html)
    assert reader.count("span") == 2
    assert reader.count("title") == 4
    assert "A<b, 1: 1" in reader.words


def test_lines_of_one_name_share_an_entry():
    lines = [Line("seeds", [0, 1], [n, 1], colour=0) for n in range(3)]
    assert read_page(line_plot(lines, x_label="x", y_label="y")).count("span") == 0


def test_long_lines_are_thinned_to_what_can_be_seen():
    html = line_plot([Line("a", range(10_000), range(10_000))], x_label="x", y_label="y")
    assert len(line_places(html)[0]) == MOST_POINTS
    assert thinned(list(range(100)), 5) == [0, 25, 50, 74, 99]


def test_bars_have_the_height_of_their_values():
    html = bar_plot(
        ["near", "far"],
        [Bars("a", [80.0, 20.0]), Bars("b", [40.0, None])],
        y_label="AP",
        y_range=(0, 100),
        below=["10 objects", "2 objects"],
    )
    plot, legend = html.split("<div class='legend'")
    heights = [float(h) for h in re.findall(r"class='bar'[^>]* height='([\d.]+)'", plot)]
    assert heights[0] / heights[1] == pytest.approx(4.0, rel=0.01)
    assert heights[0] / heights[2] == pytest.approx(2.0, rel=0.01)
    assert len(heights) == 3 and legend.count("<span>") == 2
    assert "10 objects" in plot and ">80.0<" in plot


def test_negative_bars_hang_from_zero():
    html = bar_plot(["a", "b"], [Bars("gain", [2.0, -4.0])], y_label="gain", y_range=(-5, 5))
    places = re.findall(r"class='bar' x='[\d.]+' y='([\d.]+)'[^>]* height='([\d.]+)'", html)
    (top, height), (hanging, depth) = [(float(y), float(h)) for y, h in places]
    assert top + height == pytest.approx(hanging, abs=0.2)
    assert depth == pytest.approx(2 * height, abs=0.2)


@pytest.mark.parametrize(("least", "step"), [(0.3, 0.5), (1.0, 1.0), (1.1, 2.0), (70, 100), (0, 1)])
def test_steps_are_round(least, step):
    assert round_step(least) == pytest.approx(step)


def test_ticks_stay_in_the_range():
    assert Scale(0.3, 9.7, 0, 1).ticks() == [2, 4, 6, 8]
    assert Scale(0.02, 30, 0, 1, is_log=True).ticks() == [0.1, 1, 10]
    assert Scale(2, 30, 0, 1, is_log=True).ticks() == [2, 5, 10, 20]


@pytest.mark.parametrize(
    ("value", "words"),
    [(0, "0"), (0.123456, "0.123"), (1234, "1234"), (12_345, "12.3k"), (2.5e6, "2.5M"), (-3, "-3")],
)
def test_numbers_are_short(value, words):
    assert short_number(value) == words
