"""Damaged and hostile files: no traceback, no hang, no more than 1 GB; the watch works too."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest


def run_fuzz(repo: Path, tmp_path: Path, inputs: int) -> dict:
    """The counts and findings of ``python -m benchmarks.faults.fuzz``."""
    file = tmp_path / "found.json"
    command = [sys.executable, "-m", "benchmarks.faults.fuzz"]
    command += ["--inputs", str(inputs), "--json", str(file)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=repo, env=environment, capture_output=True, text=True)
    assert file.is_file(), done.stderr[-3000:]
    return json.loads(file.read_text())


def check(found: dict, inputs: int) -> None:
    assert found["findings"] == []
    counts = found["counts"]
    assert sum(sum(row.values()) for row in counts.values()) > 0.9 * inputs
    assert sum(row.get("accepted", 0) for row in counts.values()) > 0.05 * inputs
    assert sum(row.get("refused", 0) for row in counts.values()) > 0.3 * inputs
    assert set(counts["files made to do harm"]) == {"refused"}


def test_some_hundred_damaged_files_and_all_hostile_ones(repo, tmp_path):
    check(run_fuzz(repo, tmp_path, 250), 250)


@pytest.mark.slow
def test_ten_thousand_damaged_files(repo, tmp_path):
    check(run_fuzz(repo, tmp_path, 10_000), 10_000)


@pytest.fixture
def fuzz(repo, monkeypatch):
    """The module, with short limits."""
    monkeypatch.syspath_prepend(str(repo))
    from benchmarks.faults import fuzz

    monkeypatch.setattr(fuzz, "LIMIT_S", 0.3)
    monkeypatch.setattr(fuzz, "WAIT_S", 1.0)
    return fuzz


def work_for_long(root: Path, file: Path) -> None:
    while True:
        pass


def wait_for_long(root: Path, file: Path) -> None:
    time.sleep(1000)


def take_memory(root: Path, file: Path) -> None:
    # Fresh pages: objects would reuse what the tests before have freed.
    held = mmap.mmap(-1, 400 * 2**20)
    for start in range(0, len(held), mmap.PAGESIZE):
        held[start] = 1
    time.sleep(0.3)


def fail(root: Path, file: Path) -> None:
    raise KeyError("a bug")


def speak_in_two_lines(root: Path, file: Path) -> None:
    from pcdet_distill.errors import DataError

    raise DataError("one line\nand another")


def die(root: Path, file: Path) -> None:
    os._exit(3)


@pytest.mark.parametrize(
    ("read", "outcome"),
    [
        (work_for_long, "hang"),
        (wait_for_long, "hang"),
        (take_memory, "memory"),
        (fail, "traceback"),
        (speak_in_two_lines, "traceback"),
        (die, "traceback"),
        (lambda root, file: None, "accepted"),
    ],
)
def test_the_watch_sees_what_it_must(fuzz, monkeypatch, tmp_path, read, outcome):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.txt").write_text("1 2 3")
    monkeypatch.setitem(fuzz.TARGETS, "made up", fuzz.Target(["a.txt"], read))
    if outcome == "memory":
        # Filling it takes a busy processor longer than the short limit.
        monkeypatch.setattr(fuzz, "LIMIT_S", 20.0)
    worker = fuzz.Worker(tmp_path / "corpus")
    worker._start()
    # The forked process has fewer pages in memory than this one after hundreds of tests.
    resident = fuzz._resident_bytes(worker._process.pid)
    monkeypatch.setattr(fuzz, "LIMIT_BYTES", resident + 200 * 2**20)
    result = worker.read("made up", 7)
    worker.close()
    assert result.outcome == outcome


def test_a_seed_gives_the_same_damage_again(fuzz):
    import numpy as np

    from benchmarks.faults.mutations import damaged_bytes

    content = bytes(range(256)) * 4
    one, same, other = (damaged_bytes(content, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one == same != other
