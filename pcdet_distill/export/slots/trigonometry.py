"""Angles in ONNX: it has no atan2, and no modulo for an interval that starts anywhere."""

from __future__ import annotations

import math

from ..graph import Graph


def add_limit_period(graph: Graph, value: str, offset: float, period: float) -> str:
    """Values shifted by whole periods into ``[-offset * period, (1 - offset) * period)``."""
    periods = graph.add("Floor", graph.add("Add", graph.add("Div", value, period), offset))
    return graph.add("Sub", value, graph.add("Mul", periods, period))


def add_atan2(graph: Graph, sine: str, cosine: str) -> str:
    """The angle of (cosine, sine), from -pi to pi; 0 where both are 0.

    The smaller of the two is divided by the larger, so that the quotient is exact and never large:
    near the x axis the angle is atan(sine / cosine), near the y axis a quarter turn minus
    atan(cosine / sine).
    """
    is_flat = graph.add("LessOrEqual", graph.add("Abs", sine), graph.add("Abs", cosine))
    larger = graph.add("Where", is_flat, cosine, sine)
    smaller = graph.add("Where", is_flat, sine, cosine)
    is_zero = graph.add("Equal", larger, 0.0)
    angle = graph.add("Atan", graph.add("Div", smaller, graph.add("Where", is_zero, 1.0, larger)))
    is_below = graph.add("Less", sine, 0.0)
    half_turn = graph.add("Where", is_below, -math.pi, math.pi)
    points_back = graph.add("Less", cosine, 0.0)
    flat = graph.add("Add", angle, graph.add("Where", points_back, half_turn, 0.0))
    quarter_turn = graph.add("Where", is_below, -math.pi / 2, math.pi / 2)
    steep = graph.add("Sub", quarter_turn, angle)
    return graph.add("Where", is_flat, flat, steep)
