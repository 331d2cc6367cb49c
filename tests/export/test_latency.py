"""Latency: every stage and runtime has a time, measured in turns."""

from __future__ import annotations

import sys
import time

import pytest
from layout_detectors import POINTPILLAR, crowded_cloud, make_detector, small_config

from pcdet_distill.export import latency
from pcdet_distill.export.exporter import export_detector
from pcdet_distill.export.latency import (
    GROUPING,
    SELECTION,
    Times,
    measure_latency,
    measure_stages,
    stage_table,
    time_in_turns,
)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    detector, path = make_detector(small_config(POINTPILLAR), tmp_path_factory.mktemp("latency"))
    return detector, export_detector(detector, path, opset=20)


def test_calls_take_turns_and_have_their_processor_time() -> None:
    order = []

    def busy(name: str, seconds: float) -> None:
        order.append(name)
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass

    rounds = []
    times = time_in_turns(
        {"short": lambda: busy("short", 0.002), "long": lambda: busy("long", 0.01)},
        lambda: rounds.append(1),
    )
    assert order == ["short", "long"] * (latency.ROUNDS + latency.WARM_UP)
    assert len(rounds) == latency.ROUNDS + latency.WARM_UP
    assert 10 <= times["long"].median < 20
    assert times["short"].median < times["long"].median
    assert times["long"].low <= times["long"].median <= times["long"].high


def test_every_stage_and_runtime_is_in_the_table(exported) -> None:
    detector, export = exported
    clouds = [crowded_cloud(number) for number in range(3)]
    times = measure_stages(detector, {"float": export, "again": export}, clouds)
    names = {GROUPING, SELECTION, "torch", "onnxruntime float", "onnxruntime again"}
    assert names <= set(times)
    assert all(measured.median > 0 for measured in times.values())
    table = stage_table(times).splitlines()
    assert len(table) == len(times) + 1
    assert all(line.startswith(name) for line, name in zip(table[1:], times))


def test_table_shows_median_and_quartiles() -> None:
    table = stage_table({"torch": Times(3.14159, 3.0, 3.5)})
    assert "3.14" in table and "3.00..3.50" in table


def test_openvino_is_left_out_where_it_is_not_installed(exported, monkeypatch) -> None:
    detector, export = exported
    monkeypatch.setitem(sys.modules, "openvino", None)
    times = measure_latency(detector, export, detector.batch(crowded_cloud(0)))
    assert set(times) == {"torch", "onnxruntime"}
