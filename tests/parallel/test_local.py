"""The engine of one machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from pcdet_distill.errors import DataError, UserError
from pcdet_distill.parallel import Ending, Job, LocalEngine, as_engine
from pcdet_distill.parallel.local import LocalJob, chunk_size


def process_of(number: int) -> tuple[int, int]:
    return number, os.getpid()


def refuse_three(number: int) -> int:
    if number == 3:
        raise DataError("frame 3: is bad")
    return number


def die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize(("workers", "elsewhere"), [(0, False), (1, False), (2, True)])
def test_results_come_in_order(workers: int, elsewhere: bool) -> None:
    with as_engine(workers).results(process_of, range(40)) as results:
        numbers, processes = zip(*results)
    assert numbers == tuple(range(40))
    assert (os.getpid() not in processes) is elsewhere


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_workers_may_begin_in_any_way(method: str) -> None:
    with LocalEngine(2, method=method).results(abs, [-1, -2, -3]) as results:
        assert list(results) == [1, 2, 3]


def test_one_item_needs_no_pool() -> None:
    with LocalEngine(4).results(process_of, [7]) as results:
        assert list(results) == [(7, os.getpid())]


def test_an_engine_stays_as_it_is() -> None:
    engine = LocalEngine(3)
    assert as_engine(engine) is engine


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_is_that_of_the_task(workers: int) -> None:
    with (
        pytest.raises(DataError, match="^frame 3: is bad$"),
        LocalEngine(workers).results(refuse_three, range(6)) as results,
    ):
        list(results)


def test_a_killed_worker_is_a_sentence() -> None:
    with (
        pytest.raises(UserError, match="a worker process was killed, perhaps because the memory"),
        LocalEngine(2).results(die, range(6)) as results,
    ):
        list(results)


def test_parts_keep_all_processes_busy() -> None:
    assert [chunk_size(count, 2) for count in (1, 16, 1000)] == [1, 2, 16]


def job(folder: Path, code: str) -> Job:
    return Job(["-c", code], folder, folder / "logs" / "job.log")


def wait_for(started: LocalJob) -> Ending:
    while (ending := started.poll()) is None:
        time.sleep(0.01)
    return ending


def test_a_job_writes_its_log_and_ends(tmp_path: Path) -> None:
    code = "import os, sys; print(os.getcwd()); print('bad', file=sys.stderr); sys.exit(3)"
    assert wait_for(LocalEngine().start(job(tmp_path, code))) == Ending(3)
    lines = (tmp_path / "logs" / "job.log").read_text().splitlines()
    assert sorted(lines) == sorted([str(tmp_path), "bad"])
    assert wait_for(LocalEngine().start(job(tmp_path, "raise SystemExit(0)"))) == Ending(0)
    assert "bad" in (tmp_path / "logs" / "job.log").read_text()


def test_a_job_has_one_thread_unless_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    code = "import os; print(os.environ['OMP_NUM_THREADS'])"
    wait_for(LocalEngine().start(job(tmp_path, code)))
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    wait_for(LocalEngine().start(job(tmp_path, code)))
    wait_for(LocalJob(job(tmp_path, code), "4"))
    assert (tmp_path / "logs" / "job.log").read_text().split() == ["1", "3", "4"]


def test_a_stopped_job_may_finish_its_step(tmp_path: Path) -> None:
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('saved'), sys.exit(75)))\n"
        "print('begun', flush=True)\n"
        "time.sleep(60)\n"
    )
    started = LocalEngine().start(job(tmp_path, code))
    log = tmp_path / "logs" / "job.log"
    while "begun" not in log.read_text():
        time.sleep(0.01)
    started.stop()
    assert log.read_text() == "begun\nsaved\n"
    assert started.poll() == Ending(75)


def test_what_jobs_need_is_called_here() -> None:
    assert LocalEngine().call(os.getpid) == os.getpid()
