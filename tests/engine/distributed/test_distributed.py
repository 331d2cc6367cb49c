"""Two processes on gloo train as one does with the same total batch; errors of a wrong launch."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import toy_engine

from pcdet_distill.checkpoint import load_checkpoint
from pcdet_distill.engine.distributed import World, join_world, share_batch_norm
from pcdet_distill.engine.distributed.launch import free_port, launch, rendezvous, split_options
from pcdet_distill.errors import ConfigError
from pcdet_distill.models.trainable import CheckpointState

# --- Two processes and one

# On the CPU: two processes on one GPU cannot use nccl.
COMMON = ["--device", "cpu", "--workers", "0", "--fix_random_seed"]
COMMON += ["--logger_iter_interval", "1", "--save_to_file"]


def train_in_two_processes(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Train the toy in ``folder`` by the launcher that dist_train.sh uses."""
    return train_in_processes(folder, 2, *arguments)


def train_in_processes(
    folder: Path, count: int, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """The same in ``count`` processes, with further environment variables."""
    toy_engine.write_config(folder)
    command = [sys.executable, "-m", "pcdet_distill.engine.distributed.launch", str(count)]
    command += [toy_engine.__file__, "train", "--cfg_file", "cfgs/toys/toy.yaml"]
    command += ["--launcher", "pytorch", *COMMON, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOY_PLAIN": "1", **variables}
    return subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=120
    )


def train_in_one_process(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """The same training in this process."""
    with monkeypatch.context() as patch:
        for module, name in toy_engine.REPLACED:
            patch.setattr(module, name, getattr(module, name))
        toy_engine.install(batch_norm=False, dropout=0.0)
        toy_engine.train_toy(folder, *COMMON, *arguments)


def last_checkpoint(folder: Path) -> CheckpointState:
    """The checkpoint of the third epoch."""
    return load_checkpoint(toy_engine.output_of(folder) / "ckpt" / "checkpoint_epoch_3.pth")


def last_results(folder: Path) -> Path:
    """The folder of the evaluation after the third epoch."""
    return toy_engine.output_of(folder) / "eval" / "eval_with_train" / "epoch_3" / "val"


def test_two_processes_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four frames a batch: all of them in one process, or two in each of two processes."""
    one = tmp_path / "one"
    two = tmp_path / "two"
    train_in_one_process(one, monkeypatch, "--batch_size", "4")
    run = train_in_two_processes(two, "--batch_size", "4")
    assert run.returncode == 0, run.stderr
    # Only rank 0 logs.
    assert run.stdout.count("epoch 1/3  it 1/3") == 1

    state_of_one = last_checkpoint(one)
    state_of_two = last_checkpoint(two)
    for key, expected in state_of_one["model_state"].items():
        found = state_of_two["model_state"][key]
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert len(state_of_one["random_states"]) == 1
    assert len(state_of_two["random_states"]) == 2

    expected = json.loads((last_results(one) / "metrics.json").read_text())
    found = json.loads((last_results(two) / "metrics.json").read_text())
    assert expected["samples"] == toy_engine.FRAMES
    assert found["samples"] == toy_engine.FRAMES
    assert found["recall/rcnn_0.3"] == expected["recall/rcnn_0.3"]
    key = "Car_3d/moderate_R40"
    assert found["ap"][key] == pytest.approx(expected["ap"][key], rel=1e-5)
    texts = list((last_results(two) / "final_result" / "data").glob("*.txt"))
    assert len(texts) == toy_engine.FRAMES


def test_a_bad_frame_of_one_process_ends_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process names the file; the other one loses its partner in the middle of a step."""
    monkeypatch.setenv("TOY_BAD_FRAME", "7")
    done = train_in_two_processes(tmp_path)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert "error: velodyne/000007.bin: 7 bytes, expected a multiple of 16" in lines
    assert all(line.startswith("error: ") for line in lines), lines
    assert not list(tmp_path.rglob("checkpoint_epoch_*"))


# --- Joining a world


@pytest.mark.parametrize(
    ("launcher", "missing"), [("pytorch", "WORLD_SIZE is not set"), ("slurm", "SLURM_NODELIST")]
)
def test_missing_launcher_environment_is_a_sentence(
    launcher: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_pytorch = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    of_slurm = ("SLURM_NTASKS", "SLURM_NODELIST", "MASTER_ADDR")
    for name in (*of_pytorch, *of_slurm):
        monkeypatch.delenv(name, raising=False)
    message = f"--launcher {launcher}: the environment variable {missing}"
    with pytest.raises(ConfigError, match=message), join_world(launcher, "cpu", 18888):
        pass


def test_local_rank_counts_when_the_launcher_does_not_set_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("MASTER_PORT", "0")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with join_world("pytorch", "cpu", 0, local_rank=3) as world:
        assert world.local_rank == 3
        assert world.rank == 0
        assert world.size == 1


def test_slurm_says_who_a_process_is(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {
        "SLURM_PROCID": "0",
        "SLURM_NTASKS": "1",
        "SLURM_LOCALID": "0",
        "MASTER_ADDR": "127.0.0.1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MASTER_PORT", raising=False)
    with join_world("slurm", "cpu", 0) as world:
        assert world == World(rank=0, size=1, local_rank=0, local_size=1)


def test_a_single_process_needs_no_communication() -> None:
    world = World()
    assert world.broadcast("x") == "x"
    assert world.gather("x") == ["x"]
    assert world.is_main


def test_sync_bn_is_refused_where_it_cannot_work() -> None:
    with pytest.raises(ConfigError, match="--sync_bn: there is one process"):
        share_batch_norm(torch.nn.BatchNorm1d(1), World(), torch.device("cpu"))


# --- Batch norm over all processes


@pytest.mark.parametrize("processes", [2, 3])
def test_shared_batch_norm_equals_the_whole_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    """Weights and statistics after three epochs.

    By SGD: the norm takes the bias of its convolution away again, so its gradient is rounding, and
    Adam would make that as large as any other.
    """
    one = tmp_path / "one"
    several = tmp_path / "several"
    flags = ["--batch_size", "6", "--set", "OPTIMIZATION.OPTIMIZER", "sgd"]
    with monkeypatch.context() as patch:
        for module, name in toy_engine.REPLACED:
            patch.setattr(module, name, getattr(module, name))
        toy_engine.install(batch_norm=True, dropout=0.0)
        toy_engine.train_toy(one, *COMMON, *flags)
    run = train_in_processes(several, processes, "--sync_bn", *flags, TOY_PLAIN="", TOY_DROPOUT="0")
    assert run.returncode == 0, run.stderr
    found = last_checkpoint(several)["model_state"]
    for key, expected in last_checkpoint(one)["model_state"].items():
        torch.testing.assert_close(found[key], expected, rtol=1e-5, atol=1e-6)


def test_without_sync_bn_the_statistics_differ(tmp_path: Path) -> None:
    """So the test above can fail."""
    states = []
    for name, flags in (("own", []), ("shared", ["--sync_bn"])):
        folder = tmp_path / name
        run = train_in_processes(
            folder, 2, "--batch_size", "4", *flags, TOY_PLAIN="", TOY_DROPOUT="0"
        )
        assert run.returncode == 0, run.stderr
        states.append(last_checkpoint(folder)["model_state"])
    assert (states[0]["norm.running_var"] - states[1]["norm.running_var"]).abs().max() > 1e-3


# --- Accumulated gradients


@pytest.mark.parametrize("accumulate", [2, 3])
def test_accumulated_batches_are_a_larger_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accumulate: int
) -> None:
    """12 frames: the last iteration of an epoch has fewer batches when they do not divide."""
    large = tmp_path / "large"
    small = tmp_path / "small"
    train_in_one_process(large, monkeypatch, "--batch_size", str(2 * accumulate))
    train_in_one_process(small, monkeypatch, "--batch_size", "2", "--accumulate", str(accumulate))
    expected = last_checkpoint(large)
    found = last_checkpoint(small)
    assert found["it"] == expected["it"]
    for key, value in expected["model_state"].items():
        torch.testing.assert_close(found["model_state"][key], value, rtol=1e-5, atol=1e-6)


def test_two_processes_accumulate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = tmp_path / "one"
    two = tmp_path / "two"
    train_in_one_process(one, monkeypatch, "--batch_size", "4")
    run = train_in_two_processes(two, "--batch_size", "2", "--accumulate", "2")
    assert run.returncode == 0, run.stderr
    expected = last_checkpoint(one)["model_state"]
    for key, value in last_checkpoint(two)["model_state"].items():
        torch.testing.assert_close(value, expected[key], rtol=1e-5, atol=1e-6)


# --- Several machines, restarts, a process that stops


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "TOY_PLAIN": "1"}


def start_agents(
    folder: Path, *arguments: str, agents: str = "2", victim: int | None = None
) -> list[subprocess.Popen[str]]:
    """Two machines of one process each, both of them this one; they meet at the first.

    Args:
        agents: ``--nnodes``: how many there are, or ``1:2`` for one or two.
        victim: the machine that is lost in the fifth step; makes the file ``died``.
    """
    toy_engine.write_config(folder)
    port = free_port()
    command = [sys.executable, "-m", "pcdet_distill.engine.distributed.launch", "1"]
    command += [toy_engine.__file__, "train", "--cfg_file", "cfgs/toys/toy.yaml"]
    command += ["--launcher", "pytorch", *COMMON, "--nnodes", agents]
    command += ["--rdzv_endpoint", f"127.0.0.1:{port}", *arguments]
    started = []
    for number in range(2):
        environment = dict(ENVIRONMENT)
        if number == victim:
            environment["TOY_DIE_WITH_AGENT"] = str(folder / "died")
        started.append(start_agent(command, folder, environment))
        wait_for_listener(port)
    return started


def start_agent(
    command: list[str], folder: Path, environment: dict[str, str]
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        env=environment,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_listener(port: int) -> None:
    """Wait until the first agent's store listens, so that it is no other's."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.1)
    raise AssertionError("the first agent does not listen")


def test_two_machines_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = tmp_path / "one"
    two = tmp_path / "two"
    train_in_one_process(one, monkeypatch, "--batch_size", "4")
    agents = start_agents(two, "--batch_size", "4")
    for agent in agents:
        _, errors = agent.communicate(timeout=180)
        assert agent.returncode == 0, errors
    expected = last_checkpoint(one)["model_state"]
    for key, value in last_checkpoint(two)["model_state"].items():
        torch.testing.assert_close(value, expected[key], rtol=1e-5, atol=1e-6)


def test_a_killed_process_is_restarted_and_goes_on(tmp_path: Path) -> None:
    """One of two processes kills itself once; both start again from the last checkpoint."""
    run = train_in_processes(
        tmp_path,
        2,
        *("--batch_size", "4", "--max_restarts", "1", "--ckpt_save_time_interval", "0"),
        TOY_DIE_ONCE=str(tmp_path / "died"),
    )
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "died").exists()
    assert "resumed from" in run.stdout
    assert last_checkpoint(tmp_path)["it"] == 9


LOST_MACHINE = ["--batch_size", "4", "--ckpt_save_time_interval", "0", "--rank_timeout", "0.5"]
LOST_MACHINE += ["--max_restarts", "3"]
# The rendezvous notices a lost machine after two seconds instead of 15.
WATCHFUL = "keep_alive_interval=1,keep_alive_max_attempt=2"


def test_a_lost_machine_is_replaced(tmp_path: Path) -> None:
    """The second of two agents is killed with its process; a third one takes its place."""
    first, lost = start_agents(tmp_path, *LOST_MACHINE, "--rdzv_conf", WATCHFUL, victim=1)
    lost.communicate(timeout=180)
    assert (tmp_path / "died").exists()
    assert isinstance(lost.args, list)
    third = start_agent(lost.args, tmp_path, ENVIRONMENT)
    printed, errors = first.communicate(timeout=180)
    third.communicate(timeout=60)
    assert (first.returncode, lost.returncode, third.returncode) == (0, -9, 0), errors
    assert "Traceback" not in errors
    assert "resumed from" in printed
    assert last_checkpoint(tmp_path)["it"] == 9


@pytest.mark.slow
def test_the_machine_that_remains_goes_on(tmp_path: Path) -> None:
    """As above without a third one: ``--nnodes 1:2`` lets the first go on alone."""
    patient = f"{WATCHFUL},last_call_timeout=40"
    first, lost = start_agents(
        tmp_path, *LOST_MACHINE, "--rdzv_conf", patient, agents="1:2", victim=1
    )
    lost.communicate(timeout=180)
    printed, errors = first.communicate(timeout=180)
    assert (tmp_path / "died").exists()
    assert (first.returncode, lost.returncode) == (0, -9), errors
    assert "Traceback" not in errors
    assert "resumed from" in printed
    assert last_checkpoint(tmp_path)["epoch"] == 3


def test_without_the_machine_where_they_meet_the_other_one_ends(tmp_path: Path) -> None:
    """The first agent is killed with its process; the second says so, and how to go on."""
    agents = start_agents(tmp_path, *LOST_MACHINE, victim=0)
    _, (_, errors) = [agent.communicate(timeout=180) for agent in agents]
    assert (tmp_path / "died").exists()
    assert [agent.returncode for agent in agents] == [-9, 2], errors
    assert "Traceback" not in errors
    assert "error: --rdzv_endpoint 127.0.0.1:" in errors
    assert "start the same command on all machines" in errors


def test_a_stopped_process_ends_the_others(tmp_path: Path) -> None:
    """SIGSTOP: it neither answers nor ends."""
    toy_engine.write_config(tmp_path)
    run = train_in_processes(
        tmp_path, 2, "--batch_size", "4", "--rank_timeout", "0.05", TOY_STOP_RANK="1"
    )
    assert run.returncode == 2
    assert "another one did not answer for 0.05 minutes (--rank_timeout)" in run.stderr
    assert "Traceback" not in run.stderr


def test_several_machines_need_a_place_to_meet(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        launch(1, ["train.py", "--nnodes", "2"])
    assert caught.value.code == 2
    assert "error: --nnodes 2: expected --rdzv_endpoint HOST:PORT" in capsys.readouterr().err


def test_options_of_torchrun_are_told_from_those_of_the_tool() -> None:
    words = ["train.py", "--cfg_file", "a.yaml", "--nnodes", "1:4", "--rdzv_endpoint", "host:1"]
    words += ["--max_restarts", "3", "--epochs", "5", "--set", "X", "--nnodes"]
    options, rest = split_options(words)
    assert rest == ["train.py", "--cfg_file", "a.yaml", "--epochs", "5", "--set", "X", "--nnodes"]
    assert rendezvous(options) == [
        *("--nnodes", "1:4", "--max_restarts", "3", "--rdzv_backend", "c10d"),
        *("--rdzv_id", "pcdet_distill", "--rdzv_endpoint", "host:1"),
    ]
