"""The figures of studies in the README and on the study pages are those of results.csv."""

from __future__ import annotations

import csv
import re
import statistics
from pathlib import Path

import pytest

STUDY = "docs/study/small_pair"
README_ROW = re.compile(
    r"^\| \[.+?\]\((?P<config>[\w/.]+)\) \| `(?P<row>\w+)` \| (?P<epochs>\d+) \| (?P<cpu>\d+) \| "
    r"(?P<ap>[\d.]+)(?: ± (?P<sd>[\d.]+))? \| (?P<gap>-?\d+) % \|$"
)
STUDIES = (
    "few_labels",
    "long_schedule",
    "small_pair",
    "small_second",
    "strong_teacher",
    "very_small",
)
# Numbers are published with one decimal, results.csv has two: half a unit of both may differ.
AP_TOLERANCE = 0.05 + 0.006


def readme_rows(repo: Path) -> list[dict[str, str]]:
    lines = (repo / "README.md").read_text().splitlines()
    matches = [README_ROW.match(line) for line in lines]
    return [match.groupdict() for match in matches if match]


def results(folder: Path, split: str) -> list[dict[str, str]]:
    with (folder / "results.csv").open() as file:
        return [line for line in csv.DictReader(file) if line["split"] == split]


def runs_of(row: str, lines: list[dict[str, str]]) -> list[dict[str, str]]:
    return [line for line in lines if line["row"] == row]


def column(runs: list[dict[str, str]], name: str) -> list[float]:
    return [float(run[name]) for run in runs]


def test_every_row_of_the_study_is_read(repo):
    text = (repo / "README.md").read_text()
    table = text.split("| row of the study |")[1].split("\n\n")[0]
    lines = [line for line in table.splitlines()[2:] if line.startswith("|")]
    assert len(readme_rows(repo)) == len(lines) >= 4


def test_figures_are_those_of_the_results(repo):
    lines = results(repo / STUDY, "holdout")
    page = (repo / STUDY / "README.md").read_text()
    plain = statistics.fmean(column(runs_of("plain", lines), "3d_mAP"))
    teacher = statistics.fmean(column(runs_of("teacher", lines), "3d_mAP"))
    for row in readme_rows(repo):
        runs = runs_of(row["row"], lines)
        scores = column(runs, "3d_mAP")
        mean = statistics.fmean(scores)
        assert float(row["ap"]) == pytest.approx(mean, abs=AP_TOLERANCE)
        assert int(row["cpu"]) == pytest.approx(statistics.fmean(column(runs, "cpu_s")), abs=0.51)
        assert (row["sd"] is None) == (len(runs) == 1)
        if len(runs) > 1:
            assert float(row["sd"]) == pytest.approx(statistics.stdev(scores), abs=AP_TOLERANCE)
        closed = 100 * (mean - plain) / (teacher - plain)
        assert int(row["gap"]) == pytest.approx(closed, abs=0.6)
        for run in runs:
            assert run["epochs"] == row["epochs"]
            command = train_command(page, run)
            assert row["config"] in command
            assert f"--epochs {row['epochs']} " in command


def train_command(page: str, run: dict[str, str]) -> str:
    """The command on the study's page that trained a run."""
    tag = "teacher-" if run["row"] == "teacher" else f"small_pair-{run['run']} "
    commands = [line for line in page.splitlines() if "tools/train.py" in line]
    return next(line for line in commands if f"--extra_tag {tag}" in line)


@pytest.mark.parametrize("split", ["val", "holdout"])
@pytest.mark.parametrize("study", STUDIES)
def test_the_tables_of_a_page_are_those_of_its_results(repo, study, split):
    folder = repo / "docs" / "study" / study
    lines = results(folder, split)
    page = (folder / "README.md").read_text()
    section = page.split(f"## Split `{split}`")[1].split("### All rows")[1]
    table = section.split("### ")[0]
    rows = re.findall(r"^\| \[(\w+)\]\([^)]+\) \|(.*)\|$", table, flags=re.M)
    assert {name for name, _ in rows} == {line["row"] for line in lines}
    for name, text in rows:
        cells = [cell.strip() for cell in text.split("|")]
        runs = runs_of(name, lines)
        assert cells[0] == str(len(runs))
        for cell, metric in ((cells[6], "bev_mAP"), (cells[7], "3d_mAP")):
            scores = column(runs, metric)
            mean, _, deviation = cell.partition("±")
            assert float(mean) == pytest.approx(statistics.fmean(scores), abs=AP_TOLERANCE)
            assert bool(deviation) == (len(scores) > 1)
            if deviation:
                wanted = statistics.stdev(scores)
                assert float(deviation) == pytest.approx(wanted, abs=AP_TOLERANCE)


def test_the_studies_are_all_that_are_published(repo):
    published = [path.parent.name for path in (repo / "docs" / "study").glob("*/results.csv")]
    assert sorted(published) == sorted(STUDIES)
