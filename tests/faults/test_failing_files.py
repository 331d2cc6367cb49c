"""The disk that fails in the middle. Each case runs in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import errno, os, sys
from pathlib import Path
from benchmarks.faults.failing_files import FailingDisk

folder = Path(sys.argv[1])
FailingDisk((folder,), {options}).install()
for number in range(4):
    try:
        with (folder / str(number)).open("w") as file:
            file.write("text")
        print("written")
    except OSError as error:
        print(errno.errorcode[error.errno])
(folder.parent / "elsewhere").write_text("text")
"""


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("first=3", ["written", "written", "EIO", "EIO"]),
        ("first=2, lasting=False", ["written", "EIO", "written", "written"]),
        ("first=2, code=errno.ENOSPC, in_write=True", ["written", "ENOSPC", "ENOSPC", "ENOSPC"]),
        ("first=2, lasting=False, in_write=True", ["written", "EIO", "written", "written"]),
        ("first=99", ["written"] * 4),
    ],
)
def test_it_fails_from_the_given_moment(
    repo: Path, tmp_path: Path, options: str, expected: list[str]
) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = [sys.executable, "-c", SCRIPT.format(options=options), str(folder)]
    done = subprocess.run(command, cwd=repo, capture_output=True, text=True, check=True)
    assert done.stdout.split() == expected
    assert (tmp_path / "elsewhere").read_text() == "text"
