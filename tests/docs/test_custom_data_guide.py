"""docs/custom_data.md: its ten commands lead from a folder of clouds to AP."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from warehouse_data import write_warehouse

COMMANDS = re.compile(r"```bash\n(.*?)```", re.DOTALL)
OPTIONS = re.compile(r"`(--\w+)")


def page_of(repo: Path) -> str:
    return (repo / "docs" / "custom_data.md").read_text()


def commands_of(repo: Path) -> list[str]:
    """The lines of the page that a reader types."""
    lines = []
    for block in COMMANDS.findall(page_of(repo)):
        lines += block.splitlines()
    return lines


def call(line: str, folder: Path, repo: Path) -> subprocess.CompletedProcess:
    """Run a line of the page as a shell would, with this Python."""
    program, *arguments = shlex.split(line)
    assert program == "pcdet-distill", line
    return subprocess.run(
        [sys.executable, "-m", "pcdet_distill", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(repo), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def done(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The folder of a reader who ran every command, and what each printed."""
    folder = tmp_path_factory.mktemp("own")
    write_warehouse(folder / "my_data")
    printed = {}
    for line in commands_of(repo):
        run = call(line, folder, repo)
        assert run.returncode == 0, f"{line}\n{run.stdout}{run.stderr}"
        printed[line] = run.stdout
    return folder, printed


def test_there_are_at_most_ten_commands(repo: Path) -> None:
    assert 5 < len(commands_of(repo)) <= 10


def test_the_shown_table_is_what_the_command_prints(repo: Path, done) -> None:
    printed = done[1][commands_of(repo)[0]]
    (shown,) = re.findall(r"```\n(24 frames.*?)```", page_of(repo), re.DOTALL)
    assert shown in printed


@pytest.mark.parametrize("name", ["warehouse_teacher", "warehouse_student"])
def test_both_detectors_learn_the_classes(done, name: str) -> None:
    (path,) = (done[0] / "output" / name).rglob("eval_with_train/*/val/metrics.json")
    found = json.loads(path.read_text())
    assert found["samples"] == 4
    assert found["primary"]["value"] > 50


def test_the_demo_finds_objects_in_a_raw_cloud(repo: Path, done) -> None:
    (line,) = [line for line in commands_of(repo) if " demo " in line]
    assert re.search(r"0000.bin: [1-9]\d* objects", done[1][line])
    assert "Forklift" in done[1][line]


def test_infos_are_made_again(repo: Path, done) -> None:
    (line,) = [line for line in commands_of(repo) if "custom_infos" in line]
    assert "infos of 20 train, 4 val frames" in done[1][line]


def test_every_flag_of_the_page_exists(repo: Path) -> None:
    help_text = call("pcdet-distill data custom --help", repo, repo).stdout
    flags = set(OPTIONS.findall(page_of(repo))) - {"--epochs"}
    assert flags
    for flag in flags:
        assert flag in help_text, flag
