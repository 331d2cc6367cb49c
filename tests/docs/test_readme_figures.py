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
    "hard_equal_cost",
    "hard_few_labels",
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
    header = [title.strip() for title in table.strip().splitlines()[0].strip("|").split("|")]
    rows = re.findall(r"^\| \[(\w+)\]\([^)]+\) \|(.*)\|$", table, flags=re.M)
    # Rows of which no run has ended stand without figures.
    rows = [(name, text) for name, text in rows if not text.strip().startswith("0/")]
    ended = [line for line in lines if line["status"] == "finished"]
    assert {name for name, _ in rows} == {line["row"] for line in ended}
    for name, text in rows:
        cells = dict(zip(header[1:], (cell.strip() for cell in text.split("|"))))
        runs = runs_of(name, ended)
        assert cells["seeds"].split("/")[0] == str(len(runs))
        for title, metric in (("BEV mAP", "bev_mAP"), ("3D mAP", "3d_mAP")):
            cell, scores = cells[title], column(runs, metric)
            mean, _, deviation = cell.partition("±")
            assert float(mean) == pytest.approx(statistics.fmean(scores), abs=AP_TOLERANCE)
            assert bool(deviation) == (len(scores) > 1)
            if deviation:
                wanted = statistics.stdev(scores)
                assert float(deviation) == pytest.approx(wanted, abs=AP_TOLERANCE)


def test_a_score_and_its_time_in_the_words_of_a_page_are_those_of_one_row(repo):
    """Such as "73.9 ± 0.6 in 147 s"."""
    folder = repo / "docs" / "study"
    rows = set()
    for study in STUDIES:
        lines = [line for line in results(folder / study, "holdout") if line["cpu_s"]]
        for name in {line["row"] for line in lines}:
            runs = runs_of(name, lines)
            score = statistics.fmean(column(runs, "3d_mAP"))
            seconds = statistics.fmean(column(runs, "cpu_s"))
            rows.add((f"{score:.1f}", f"{seconds:.0f}"))
    pages = [folder / "README.md", *(folder / study / "README.md" for study in STUDIES)]
    found = []
    for page in pages:
        words = " ".join(page.read_text().split("<!-- results:begin -->")[0].split())
        found += re.findall(r"(\d+\.\d)(?: ± \d\.\d)? in (\d+) s\b", words)
    assert len(found) >= 5
    assert set(found) <= rows


def test_the_studies_are_all_that_are_published(repo):
    published = [path.parent.name for path in (repo / "docs" / "study").glob("*/results.csv")]
    assert sorted(published) == sorted(STUDIES)


FEW_LABELS = "docs/study/hard_few_labels"
SHORT = "docs/study/hard_equal_cost"


@pytest.mark.parametrize(
    ("study", "row", "baseline", "split", "files"),
    [
        (FEW_LABELS, "init_soft", "init", "holdout", ("README.md", f"{FEW_LABELS}/README.md")),
        (FEW_LABELS, "init_soft", "init", "holdout_true", (f"{FEW_LABELS}/README.md",)),
        (FEW_LABELS, "init_soft", "init", "val", (f"{FEW_LABELS}/README.md",)),
        (SHORT, "init", "plain", "holdout", ("README.md", f"{SHORT}/README.md")),
        (SHORT, "init", "plain", "holdout_true", (f"{SHORT}/README.md",)),
        (SHORT, "init", "plain", "val", (f"{SHORT}/README.md",)),
    ],
)
def test_a_gain_of_five_seeds_in_words(repo, study, row, baseline, split, files):
    lines = results(repo / study, split)
    scores = {
        name: {run["seed"]: float(run["3d_mAP"]) for run in runs_of(name, lines)}
        for name in (row, baseline)
    }
    gains = [scores[row][seed] - scores[baseline][seed] for seed in scores[baseline]]
    assert len(gains) == 5
    error = statistics.stdev(gains) / len(gains) ** 0.5
    for file in files:
        # The page may break its lines anywhere.
        text = " ".join((repo / file).read_text().split())
        assert f"{statistics.fmean(gains):.1f} ± {error:.1f}" in text
