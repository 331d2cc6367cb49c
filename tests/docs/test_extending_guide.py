"""docs/extending.md: its files and commands work in a folder outside the library."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

NAMED_BLOCK = re.compile(r"```(?:python|yaml)\n(# (\S+)\n.*?)```", re.DOTALL)
COMMANDS = re.compile(r"```bash\n(.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def project(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a reader who copied every file of the page and ran every command."""
    folder = tmp_path_factory.mktemp("warehouse")
    page = (repo / "docs" / "extending.md").read_text()
    for code, name in NAMED_BLOCK.findall(page):
        (folder / name).write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(repo), "OMP_NUM_THREADS": "1"}
    for block in COMMANDS.findall(page):
        for line in block.splitlines():
            program, *arguments = shlex.split(line)
            assert program == "python", line
            run = subprocess.run(
                [sys.executable, *arguments],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
            )
            assert run.returncode == 0, f"{line}\n{run.stdout}{run.stderr}"
    return folder


def metrics(project: Path, name: str) -> dict:
    """metrics.json of the only evaluation of a training."""
    (path,) = (project / "output" / name).rglob("metrics.json")
    return json.loads(path.read_text())


def test_every_python_block_is_a_file(repo: Path) -> None:
    page = (repo / "docs" / "extending.md").read_text()
    assert len(NAMED_BLOCK.findall(page)) == page.count("```python") + page.count("```yaml")


@pytest.mark.parametrize("name", ["forklifts", "forklift_net", "forklift_distill"])
def test_a_dataset_of_ones_own_trains_and_is_scored_by_its_own_benchmark(
    project: Path, name: str
) -> None:
    found = metrics(project, name)
    assert found["samples"] == 4
    assert found["ap"]["Forklift"]["recall"] >= 0.75
    assert found["primary"] == {
        "name": "recall at 1 m",
        "value": found["ap"]["Forklift"]["recall"],
    }


def test_the_log_holds_the_benchmarks_own_text(project: Path) -> None:
    (log,) = (project / "output" / "forklifts").rglob("train_*.log")
    assert re.search(r"Forklifts: recall \d\.\d\d, precision \d\.\d\d", log.read_text())


def test_a_loss_of_ones_own_takes_part_in_the_training(project: Path) -> None:
    log = project / "output" / "forklift_distill" / "default" / "metrics.jsonl"
    records = [json.loads(line) for line in log.read_text().splitlines()]
    losses = [record["distill_map"] for record in records if "distill_map" in record]
    assert losses
    assert losses[-1] < losses[0]
