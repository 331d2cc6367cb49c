"""Signals: the step is finished, a checkpoint written, and one sentence said."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import toy_engine
from interruptions import identical
from toy_engine import output_of, write_config

from pcdet_distill.checkpoint import load_checkpoint
from pcdet_distill.engine import stopping, train
from pcdet_distill.engine.stopping import StopRequest
from pcdet_distill.errors import EXIT_STOPPED, StoppedBySignal

TOYS = Path(__file__).with_name("toy_engine.py")
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


# --- The handler ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", stopping.SIGNALS)
def test_a_signal_is_remembered_while_postponed(number):
    stop = StopRequest()
    with stop.handled():
        with stop.postponed():
            os.kill(os.getpid(), number)
        assert stop.received == number


def test_a_signal_ends_the_run_where_nothing_is_to_be_saved():
    stop = StopRequest()
    with stop.handled(), pytest.raises(StoppedBySignal, match="stopped by SIGTERM at once"):
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.usefixtures("toys")
def test_a_signal_in_the_evaluation_says_that_the_training_is_complete(tmp_path, monkeypatch):
    def stop_here(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(train, "evaluate_checkpoints", stop_here)
        with pytest.raises(StoppedBySignal, match="SIGTERM at once; the training is complete"):
            toy_engine.train_toy(tmp_path, "--epochs", "1")
    toy_engine.train_toy(tmp_path, "--epochs", "1")
    assert list(output_of(tmp_path).rglob("metrics.json"))


def test_the_handlers_of_before_come_back():
    before = [signal.getsignal(number) for number in stopping.SIGNALS]
    with StopRequest().handled():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert [signal.getsignal(number) for number in stopping.SIGNALS] == before


@pytest.fixture
def now(monkeypatch):
    """A list with the time, which a test moves."""
    now = [100.0]
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now[0])
    return now


def test_a_second_ctrl_c_ends_at_once(now):
    stop = StopRequest()
    with stop.handled(), stop.postponed():
        os.kill(os.getpid(), signal.SIGINT)
        now[0] += 0.2
        os.kill(os.getpid(), signal.SIGINT)  # the same keypress, sent on by torchrun
        now[0] += 3.0
        with pytest.raises(StoppedBySignal, match="SIGINT at once"):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_second_sigterm_is_still_the_first(now):
    stop = StopRequest()
    with stop.handled(), stop.postponed():
        os.kill(os.getpid(), signal.SIGTERM)
        now[0] += 5.0
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop.received == signal.SIGTERM


# --- Whole trainings ------------------------------------------------------------------------------


def train_command(folder: Path, *arguments: str) -> list[str]:
    config = str(write_config(folder))
    return [sys.executable, str(TOYS), "train", "--cfg_file", config, "--workers", "0", *arguments]


def wait_for_line(process: subprocess.Popen[str], words: str) -> None:
    """Read the output until a line has ``words``."""
    assert process.stdout is not None
    for line in process.stdout:
        if words in line:
            return
    pytest.fail(f"no line with '{words}'")


def stop_training(
    command: list[str], number: signal.Signals, step_seconds: str = "0.05"
) -> tuple[int, str, float]:
    """Send a signal after the first log line; exit code, stderr, and seconds until the end."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**ONE_THREAD, "TOY_STEP_SECONDS": step_seconds},
    )
    wait_for_line(process, "it 1/3")
    begin = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors, time.monotonic() - begin


@pytest.mark.parametrize("number", stopping.SIGNALS)
def test_a_stopped_training_goes_on_bit_for_bit(tmp_path, number):
    command = train_command(tmp_path / "stopped", "--seed", "3", "--epochs", "20")
    code, errors, _ = stop_training(command, number)
    assert code == EXIT_STOPPED
    lines = errors.strip().splitlines()
    assert lines[-1].startswith(f"stopped by {number.name} after iteration ")
    assert "Traceback" not in errors
    latest = output_of(tmp_path / "stopped") / "ckpt" / "latest_model.pth"
    stopped_at = load_checkpoint(latest)["it"]
    assert f"after iteration {stopped_at} of 60; {latest} is written" in lines[-1]
    assert 0 < stopped_at < 60
    subprocess.run(command, check=True, capture_output=True, env=ONE_THREAD)
    through = train_command(tmp_path / "through", "--seed", "3", "--epochs", "20")
    subprocess.run(through, check=True, capture_output=True, env=ONE_THREAD)
    name = Path("ckpt") / "checkpoint_epoch_20.pth"
    first = load_checkpoint(output_of(tmp_path / "stopped") / name)
    second = load_checkpoint(output_of(tmp_path / "through") / name)
    assert identical(first, second)


def test_a_signal_before_the_training_ends_it_at_once(tmp_path):
    """While the packages load Python's own handlers are in place; so the data may be missing."""
    command = train_command(tmp_path, "--epochs", "20")
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ONE_THREAD
    )
    wait_for_line(process, "random seed")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == EXIT_STOPPED
    assert errors.strip().splitlines()[-1].startswith("stopped by SIGTERM")


def test_two_processes_stop_after_the_same_step(tmp_path):
    """The signal reaches one of them alone."""
    config = str(write_config(tmp_path))
    command = [sys.executable, "-m", "pcdet_distill.engine.distributed.launch", "2", str(TOYS)]
    command += ["train", "--launcher", "pytorch", "--cfg_file", config, "--workers", "0"]
    command += ["--epochs", "40", "--seed", "3", "--batch_size", "4"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**ONE_THREAD, "TOY_STEP_SECONDS": "0.05"},
    )
    wait_for_line(process, "it 1/3")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    ranks = {rank_of(int(child)): int(child) for child in children if is_rank(int(child))}
    os.kill(ranks[1], signal.SIGUSR1)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == EXIT_STOPPED
    assert "Traceback" not in errors
    assert "stopped by SIGUSR1 after iteration" in errors
    latest = output_of(tmp_path) / "ckpt" / "latest_model.pth"
    state = load_checkpoint(latest)
    assert len(state["random_states"]) == 2
    assert 0 < state["it"] < 120


def test_the_launcher_passes_a_signal_on_and_says_one_sentence(tmp_path):
    config = str(write_config(tmp_path))
    command = [sys.executable, "-m", "pcdet_distill.engine.distributed.launch", "2", str(TOYS)]
    command += ["train", "--launcher", "pytorch", "--cfg_file", config, "--workers", "0"]
    command += ["--epochs", "40", "--seed", "3", "--batch_size", "4"]
    code, errors, _ = stop_training(command, signal.SIGTERM)
    assert code == EXIT_STOPPED
    assert "Traceback" not in errors
    assert (output_of(tmp_path) / "ckpt" / "latest_model.pth").is_file()


def environment_of(process: int) -> dict[str, str]:
    """The environment variables of a process."""
    entries = Path(f"/proc/{process}/environ").read_bytes().decode().split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def is_rank(process: int) -> bool:
    return "LOCAL_RANK" in environment_of(process)


def rank_of(process: int) -> int:
    return int(environment_of(process)["RANK"])


def test_another_thread_than_the_main_one_has_no_handlers():
    problems: list[BaseException] = []

    def use() -> None:
        try:
            with StopRequest().handled():
                pass
        except BaseException as error:  # noqa: BLE001
            problems.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert not problems
