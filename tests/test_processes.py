"""Workers end with the process that started them, even when that one is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="Linux tells a process that its parent ended"
)

WORKER = """
import os, sys, time
from pathlib import Path
from pcdet_distill.engine.distributed import join_world
with join_world("pytorch", "cpu", 0) as world:
    Path(sys.argv[1], f"pid{world.rank}").write_text(str(os.getpid()))
    time.sleep(120)
"""
TRAINING = """
import os, sys, time
from pathlib import Path
from pcdet_distill.datasets.loader import make_loader

class Slow:
    def __len__(self):
        return 8
    def __getitem__(self, index):
        Path(sys.argv[1], f"pid{index % 2}").write_text(str(os.getpid()))
        time.sleep(120)
    def collate_batch(self, items):
        return {}

loader, _ = make_loader(Slow(), 1, workers=1, seed=0, shuffle=False, dist=False)
next(iter(loader))
"""


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def kill_and_watch(command: list[str], folder: Path, workers: int, how: signal.Signals) -> None:
    """Start a command, kill it when its workers have started, and wait until they are gone.

    Args:
        command: writes the process id of every worker to a file ``pid<number>``.
        folder: where these files are written.
        workers: number of workers.
        how: signal that kills the command.
    """
    parent = subprocess.Popen(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL
    )
    try:
        files = [folder / f"pid{number}" for number in range(workers)]
        wait_for(
            lambda: all(file.exists() and file.read_text() for file in files), "the workers run"
        )
        pids = [int(file.read_text()) for file in files]
        assert all(map(is_running, pids))
        assert parent.pid not in pids
        parent.send_signal(how)
        parent.wait(timeout=60)
        wait_for(lambda: not any(map(is_running, pids)), "the workers are gone")
    finally:
        parent.kill()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=str)
def test_a_killed_launcher_takes_its_workers_with_it(tmp_path: Path, how: signal.Signals) -> None:
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    command = [
        sys.executable,
        "-m",
        "pcdet_distill.engine.distributed.launch",
        "2",
        str(script),
        str(tmp_path),
    ]
    kill_and_watch(command, tmp_path, 2, how)


def test_a_killed_training_takes_its_loader_workers_with_it(tmp_path: Path) -> None:
    kill_and_watch([sys.executable, "-c", TRAINING, str(tmp_path)], tmp_path, 1, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a process of its parent's end")
def test_a_worker_whose_parent_ended_before_it_began_ends_at_once(tmp_path: Path) -> None:
    """As a spawned worker that still imported its packages when its parent was killed."""
    child = (
        "import sys, time; from pathlib import Path\n"
        "from pcdet_distill.processes import die_with_parent\n"
        "Path(sys.argv[2], 'begun').touch()\n"
        "while not Path(sys.argv[2], 'go').exists(): time.sleep(0.01)\n"
        "die_with_parent(int(sys.argv[1]))\n"
        "Path(sys.argv[2], 'worked').touch()\n"
    )
    parent = (
        "import os, subprocess, sys, time; from pathlib import Path\n"
        f"words = ['-c', {child!r}, str(os.getpid()), sys.argv[1]]\n"
        "child = subprocess.Popen([sys.executable, *words])\n"
        "Path(sys.argv[1], 'pid').write_text(str(child.pid))\n"
        "while not Path(sys.argv[1], 'begun').exists(): time.sleep(0.01)\n"
    )
    with subprocess.Popen([sys.executable, "-c", parent, str(tmp_path)]) as process:
        assert process.wait(timeout=60) == 0
    number = int((tmp_path / "pid").read_text())
    (tmp_path / "go").touch()
    deadline = time.monotonic() + 30
    while is_running(number) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(number)
    assert not (tmp_path / "worked").exists()
