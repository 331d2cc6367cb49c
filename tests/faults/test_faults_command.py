"""``python -m benchmarks.faults``: in its short form nothing is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.faults.outcomes import Row, markdown, put_table, read_rows

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kills forks, and reads /proc")

# At least these are broken in the short form; the others need root, or happen by chance.
BROKEN = (
    "disk full from some moment on (ENOSPC)",
    "disk read-only from some moment on (EROFS)",
    "disk fails from some moment on (EIO)",
    "disk fails in one write (EIO)",
    "a point cloud cannot be read (EIO)",
    "limit on the size of a file (EFBIG)",
    "two trainings in one output folder",
    "two trainings that fill one cache of a teacher",
    "two preparations of one data folder",
    "two evaluations of one checkpoint",
    "clock jumps back and forth by days; files dated at random",
)


def run_faults(repo: Path, json_file: Path, *arguments: str) -> list[Row]:
    """The rows of a run; a loss is shown by what the command prints."""
    command = [sys.executable, "-m", "benchmarks.faults", "--json", str(json_file), *arguments]
    done = subprocess.run(command, cwd=repo, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return read_rows(json_file)


def test_nothing_is_lost_in_the_short_form(repo: Path, tmp_path: Path) -> None:
    rows = run_faults(repo, tmp_path / "faults.json", "--short")
    by_name = {row.fault: row for row in rows}
    assert set(BROKEN) <= set(by_name)
    kills = [row.times for row in rows if row.fault.startswith("SIGKILL")]
    signals = [row.times for row in rows if row.fault.startswith(("SIGTERM", "SIGINT", "SIGUSR1"))]
    assert (sum(kills), sum(signals)) == (3, 3)
    assert [row.losses for row in rows if row.lost] == []


@pytest.mark.slow
def test_nothing_is_lost_in_the_long_form(repo: Path, tmp_path: Path) -> None:
    rows = run_faults(repo, tmp_path / "faults.json")
    kills = [row.times for row in rows if row.fault.startswith("SIGKILL")]
    assert sum(kills) >= 200


def test_the_page_has_the_table_of_the_recorded_run(repo: Path, tmp_path: Path) -> None:
    page = repo / "docs" / "reliability.md"
    rows = read_rows(repo / "docs" / "results" / "faults.json")
    copy = tmp_path / "page.md"
    copy.write_text(page.read_text())
    put_table(copy, rows)
    assert copy.read_text() == page.read_text()
    assert markdown(rows) in page.read_text()
    assert [row.losses for row in rows if row.lost] == []
