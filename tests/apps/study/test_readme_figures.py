"""The README's figures of the study are those of the metrics it links to."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path
from typing import Any

import pytest

FOLDER = "docs/study/small_pair/metrics/"
ROW = re.compile(
    r"^\| \[.+?\]\((?P<config>[\w/.]+)\) \| (?P<epochs>\d+) \| (?P<cpu>\d+) \| "
    r"(?P<ap>[\d.]+)(?: ± (?P<sd>[\d.]+))? \((?P<links>.+?)\) \| (?P<gap>-?\d+) % \|$"
)
CLASSES = ("Car", "Pedestrian", "Cyclist")


def rows(repo: Path) -> list[dict[str, str]]:
    lines = (repo / "README.md").read_text().splitlines()
    return [match.groupdict() for line in lines if FOLDER in line and (match := ROW.match(line))]


def records(repo: Path, row: dict[str, str]) -> list[dict[str, Any]]:
    return [
        json.loads((repo / path).read_text()) for path in re.findall(r"\]\(([^)]+)", row["links"])
    ]


def map_3d(record: dict[str, Any]) -> float:
    ap = record["metrics"]["holdout"]["ap"]
    return statistics.fmean(ap[name]["strict"]["3d"]["R40"]["moderate"] for name in CLASSES)


def test_every_row_of_the_study_is_read(repo):
    lines = [line for line in (repo / "README.md").read_text().splitlines() if FOLDER in line]
    assert len(rows(repo)) == len(lines) >= 6


def test_figures_are_those_of_the_metrics(repo):
    means = {}
    for row in rows(repo):
        runs = records(repo, row)
        scores, costs = [map_3d(run) for run in runs], [run["cost"]["cpu_s"] for run in runs]
        means[row["links"]] = statistics.fmean(scores)
        assert float(row["ap"]) == pytest.approx(statistics.fmean(scores), abs=0.051)
        assert int(row["cpu"]) == pytest.approx(statistics.fmean(costs), abs=0.51)
        assert (row["sd"] is None) == (len(runs) == 1)
        if len(runs) > 1:
            assert float(row["sd"]) == pytest.approx(statistics.stdev(scores), abs=0.051)
        assert all(
            row["config"] in run["commands"][0]
            and f"--epochs {row['epochs']} " in run["commands"][0]
            for run in runs
        )
    plain = next(mean for links, mean in means.items() if "plain-seed0" in links)
    teacher = next(mean for links, mean in means.items() if "teacher.json" in links)
    for row in rows(repo):
        assert int(row["gap"]) == pytest.approx(
            100 * (means[row["links"]] - plain) / (teacher - plain), abs=0.51
        )
