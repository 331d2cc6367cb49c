"""The Ray engine: its order, errors and retries on a stand-in for Ray, and on Ray itself."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from fake_ray import FakeRay, WorkerCrashed

from pcdet_distill.errors import ConfigError, DataError
from pcdet_distill.parallel import Ending, Job, on_ray
from pcdet_distill.parallel.on_ray import RayEngine, RayOptions

HAS_RAY = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not HAS_RAY, reason='needs ray: pip install "pcdet_distill[ray]"')


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeRay:
    """A stand-in for Ray, to which engines connect."""
    ray = FakeRay()
    monkeypatch.setattr(on_ray, "connect", lambda address: ray)
    monkeypatch.chdir(tmp_path)
    return ray


def square(number: int) -> int:
    return number * number


def refuse_three(number: int) -> int:
    if number == 3:
        raise DataError("frame 3: is bad")
    return number


def crash_once(marker: Path, number: int) -> int:
    """Lose the worker of the first frame."""
    if not marker.exists():
        marker.touch()
        raise WorkerCrashed
    return number


def job(folder: Path, code: str, *words: str) -> Job:
    """A job that runs a line of Python."""
    return Job(["-c", code, *words], folder, folder / "logs" / "job.log")


def test_results_come_in_order(fake: FakeRay) -> None:
    engine = RayEngine(RayOptions(retries=5))
    with engine.results(square, range(100)) as results:
        assert list(results) == [number * number for number in range(100)]
    assert {task.options["max_retries"] for task in fake.tasks} == {5}
    assert {task.options["num_cpus"] for task in fake.tasks} == {1}
    assert 8 <= len(fake.tasks) < 100  # parts of several frames, enough for all cores


def test_the_queue_stays_short(fake: FakeRay) -> None:
    with RayEngine(RayOptions()).results(square, range(1000)) as results:
        next(results)
        assert len(fake.tasks) == on_ray.PARTS_AHEAD * fake.cores
    assert all(task.is_cancelled for task in fake.tasks[1:])


def test_an_error_is_that_of_the_task(fake: FakeRay) -> None:
    with (
        pytest.raises(DataError, match="^frame 3: is bad$"),
        RayEngine(RayOptions()).results(refuse_three, range(6)) as results,
    ):
        list(results)
    assert fake.tasks[-1].is_cancelled


def test_frames_of_a_lost_worker_are_repeated(fake: FakeRay, tmp_path: Path) -> None:
    task = partial(crash_once, tmp_path / "crashed")
    with RayEngine(RayOptions()).results(task, range(4)) as results:
        assert list(results) == [0, 1, 2, 3]
    assert sum(each.attempts for each in fake.tasks) == len(fake.tasks) + 1
    (tmp_path / "crashed").unlink()
    with (
        pytest.raises(on_ray.UserError, match="^Ray: The worker died$"),
        RayEngine(RayOptions(retries=0)).results(task, range(4)) as results,
    ):
        list(results)


def test_a_job_takes_its_share_of_a_gpu(fake: FakeRay, tmp_path: Path) -> None:
    engine = RayEngine(RayOptions(cpus=2, gpus=0.5, retries=1))
    started = engine.start(job(tmp_path, "import os; print(os.environ['OMP_NUM_THREADS'])"))
    options = fake.tasks[0].options
    assert (options["num_cpus"], options["num_gpus"], options["max_retries"]) == (2, 0.5, 1)
    assert started.poll() == Ending(0)
    log = (tmp_path / "logs" / "job.log").read_text()
    assert log.strip() == os.environ.get("OMP_NUM_THREADS", "1")
    assert engine.call(partial(square, 7)) == 49
    assert fake.tasks[1].options["num_gpus"] == 0.5


KILL_ONCE = """
import os, sys, pathlib
marker = pathlib.Path(sys.argv[1])
if not marker.exists():
    marker.touch()
    {end}
print("done")
"""


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 9)", "sys.exit(75)"])
def test_a_killed_job_is_repeated(fake: FakeRay, tmp_path: Path, end: str) -> None:
    code = KILL_ONCE.format(end=end)
    started = RayEngine(RayOptions()).start(job(tmp_path, code, str(tmp_path / "a")))
    assert started.poll() == Ending(0)
    assert fake.tasks[0].attempts == 2
    assert (tmp_path / "logs" / "job.log").read_text() == "done\n"
    never = RayEngine(RayOptions(retries=0)).start(job(tmp_path, code, str(tmp_path / "b")))
    ending = never.poll()
    assert ending is not None
    words = "-c was killed by SIGKILL" if "kill" in end else "-c was stopped by a signal"
    assert ending.reason == words


def test_a_failed_job_is_not_repeated(fake: FakeRay, tmp_path: Path) -> None:
    started = RayEngine(RayOptions()).start(job(tmp_path, "import sys; sys.exit(3)"))
    assert started.poll() == Ending(3)
    assert fake.tasks[0].attempts == 1


def test_a_machine_without_the_folder_says_so(fake: FakeRay, tmp_path: Path) -> None:
    started = RayEngine(RayOptions()).start(job(tmp_path / "missing", "pass"))
    ending = started.poll()
    assert ending is not None
    assert "missing: all machines of the cluster must see it under this path" in ending.reason


def test_a_stopped_job_is_cancelled(fake: FakeRay, tmp_path: Path) -> None:
    RayEngine(RayOptions()).start(job(tmp_path, "pass")).stop()
    assert fake.tasks[0].is_cancelled


@pytest.mark.skipif(HAS_RAY, reason="ray is installed")
def test_without_ray_a_sentence_names_the_extra() -> None:
    with pytest.raises(ConfigError, match=r'pip install "pcdet_distill\[ray\]"'):
        RayEngine(RayOptions())


# --- Ray itself


@pytest.fixture(scope="module")
def engine():
    """A cluster of two cores on this machine."""
    ray = pytest.importorskip("ray")
    ray.init(
        num_cpus=2,
        object_store_memory=100_000_000,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join([on_ray.PACKAGE_ROOT, *sys.path])}},
    )
    yield RayEngine(RayOptions())
    ray.shutdown()


@needs_ray
def test_frames_on_a_cluster(engine: RayEngine) -> None:
    with engine.results(square, range(20)) as results:
        assert list(results) == [number * number for number in range(20)]
    with (
        pytest.raises(DataError, match="^frame 3: is bad$"),
        engine.results(refuse_three, range(6)) as results,
    ):
        list(results)


def wait_for(started: on_ray.RayJob) -> Ending:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        ending = started.poll()
        if ending is not None:
            return ending
        time.sleep(0.1)
    raise AssertionError("the job did not end")


@needs_ray
def test_a_job_outlives_its_worker(engine: RayEngine, tmp_path: Path) -> None:
    """The first time the job kills the worker process that runs it."""
    code = KILL_ONCE.format(end="os.kill(os.getppid(), 9); import time; time.sleep(60)")
    started = engine.start(job(tmp_path, code, str(tmp_path / "marker")))
    assert wait_for(started) == Ending(0)
    assert (tmp_path / "logs" / "job.log").read_text() == "done\n"


@needs_ray
def test_a_cancelled_job_ends_in_order(engine: RayEngine, tmp_path: Path) -> None:
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('saved'), sys.exit(75)))\n"
        "print('begun', flush=True)\n"
        "time.sleep(60)\n"
    )
    started = engine.start(job(tmp_path, code))
    log = tmp_path / "logs" / "job.log"
    end = time.monotonic() + 60
    while not (log.exists() and "begun" in log.read_text()) and time.monotonic() < end:
        time.sleep(0.1)
    started.stop()
    assert log.read_text() == "begun\nsaved\n"


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:1", "no Ray cluster answers there .*refused.*; start one by ray start --head"),
        ("ray://127.0.0.1:99999999", "no Ray cluster answers there"),
        ("head:port", "expected auto, HOST:PORT or ray://HOST:PORT"),
    ],
)
def test_an_address_where_nothing_listens_is_refused_at_once(address: str, words: str) -> None:
    with pytest.raises(ConfigError, match=f"^--address {address}: {words}"):
        on_ray.check_answers(address)


@needs_ray
def test_an_address_without_a_cluster_is_a_sentence() -> None:
    code = (
        "from pcdet_distill.parallel.on_ray import connect\n"
        "from pcdet_distill.errors import exit_on_user_error\n"
        "exit_on_user_error(connect)('127.0.0.1:1')\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert run.returncode == 2
    assert "error: --address 127.0.0.1:1: no Ray cluster answers there" in run.stderr
