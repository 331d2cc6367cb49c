"""The processes of a run. In the engine only this file and ``wrap`` call torch.distributed.

Launchers are OpenPCDet's: ``none``, ``pytorch`` (torchrun's environment variables) and ``slurm``
(SLURM's). The processes communicate by nccl on CUDA and by gloo on a CPU.
"""

from __future__ import annotations

import datetime
import gc
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
import torch.distributed as dist

from ...errors import ConfigError
from ...moved import warn_renamed
from ...processes import available_cores, die_with_parent

T = TypeVar("T")

# Rank 0 may score a whole evaluation while the other processes wait at a barrier.
TIMEOUT = datetime.timedelta(minutes=60)
# Parts of the messages of gloo and nccl when another process has ended.
TIMED_OUT = ("imed out", "imeout")
PEER_ENDED = ("onnection closed by peer", "onnection reset by peer", "roken pipe")


@dataclass(frozen=True)
class World:
    """The place of this process among the processes of a run.

    Attributes:
        rank: number of this process; rank 0 is the main process.
        size: number of processes.
        local_rank: number of this process on its machine.
        local_size: number of processes on this machine.
        step_timeout: how long a training step waits for another process.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    step_timeout: datetime.timedelta = datetime.timedelta(minutes=5)

    def new_step_group(self, backend: str | None = None) -> dist.ProcessGroup | None:
        """A group of all processes for the exchanges of training steps.

        A step that takes long has lost a process: so its timeout is short, where other exchanges
        wait for an hour.
        """
        return dist.new_group(backend=backend, timeout=self.step_timeout)

    @property
    def is_main(self) -> bool:
        """True in the one process that writes files and logs."""
        return self.rank == 0

    @property
    def cores_per_process(self) -> int:
        """CPU cores for each process on this machine, at least one."""
        return max(1, available_cores() // self.local_size)

    def broadcast(self, value: T) -> T:
        """Return the ``value`` of rank 0 in every process."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def gather(self, value: T) -> list[T]:
        """Return the ``value`` of every process, ordered by rank, in every process."""
        if self.size == 1:
            return [value]
        values = [value] * self.size
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Wait until every process has called this method."""
        if self.size > 1:
            dist.barrier()

    def share(self, value: T) -> T:
        """The old name of ``broadcast``."""
        warn_renamed("World.share", "World.broadcast")
        return self.broadcast(value)

    def wait(self) -> None:
        """The old name of ``barrier``."""
        warn_renamed("World.wait", "World.barrier")
        self.barrier()


@contextmanager
def join_world(
    launcher: str,
    device_name: str | None,
    tcp_port: int,
    local_rank: int = 0,
    waiting_mins: float = 0,
    step_timeout_mins: float = 5,
) -> Iterator[World]:
    """Open the process group for as long as the context lasts; ``none`` opens nothing.

    Args:
        launcher: none, pytorch or slurm.
        device_name: ``--device``; decides between nccl and gloo.
        tcp_port: used where the launcher sets no MASTER_PORT.
        local_rank: used where the launcher sets no LOCAL_RANK.
        waiting_mins: added to the timeout of every communication but those of training steps.
        step_timeout_mins: timeout of these.
    """
    if launcher == "none":
        yield World()
        return
    if launcher == "pytorch":
        die_with_parent()  # the launcher is the parent; SLURM ends its own processes
        world = _torchrun_world(local_rank)
    else:
        world = _slurm_world()
    world = replace(world, step_timeout=datetime.timedelta(minutes=step_timeout_mins))
    on_cuda = torch.cuda.is_available() and not (device_name or "").startswith("cpu")
    _connect(world, "nccl" if on_cuda else "gloo", tcp_port, waiting_mins)
    try:
        yield world
        # Leave together: a process that still communicates needs the others.
        world.barrier()
    except RuntimeError as error:
        if any(sign in str(error) for sign in TIMED_OUT):
            raise ConfigError(
                f"process {world.rank} of {world.size} stopped, because another one did not answer "
                f"for {step_timeout_mins:g} minutes (--rank_timeout)"
            ) from None
        if not any(sign in str(error) for sign in PEER_ENDED):
            raise
        raise ConfigError(
            f"process {world.rank} of {world.size} stopped, because another one ended"
        ) from None
    finally:
        _leave()


def _leave() -> None:
    """Close the process group and end its threads.

    DistributedDataParallel keeps the group alive, and is itself part of a reference cycle. A thread
    of the group that is still running when Python exits can abort the process (exit code 134).
    """
    gc.collect()
    dist.destroy_process_group()


def _torchrun_world(local_rank: int) -> World:
    """The processes that torchrun describes in environment variables."""
    size = _environment_number("WORLD_SIZE", "pytorch")
    if "LOCAL_RANK" in os.environ:
        local_rank = _environment_number("LOCAL_RANK", "pytorch")
    return World(
        rank=_environment_number("RANK", "pytorch"),
        size=size,
        local_rank=local_rank,
        local_size=int(os.environ.get("LOCAL_WORLD_SIZE", size)),
    )


def _slurm_world() -> World:
    """The processes that SLURM describes in environment variables."""
    if "MASTER_ADDR" not in os.environ:
        node_list = os.environ.get("SLURM_NODELIST", "")
        if not node_list:
            raise ConfigError(
                "--launcher slurm: the environment variable SLURM_NODELIST is not set; "
                "start with srun"
            )
        os.environ["MASTER_ADDR"] = _first_host(node_list)
    size = _environment_number("SLURM_NTASKS", "slurm")
    local_size = os.environ.get("SLURM_NTASKS_PER_NODE", "")
    return World(
        rank=_environment_number("SLURM_PROCID", "slurm"),
        size=size,
        local_rank=_environment_number("SLURM_LOCALID", "slurm"),
        local_size=int(local_size) if local_size.isdigit() else size,
    )


def _environment_number(name: str, launcher: str) -> int:
    """The environment variable ``name``, which the launcher should have set to a whole number."""
    value = os.environ.get(name)
    if value is None or not value.isdigit():
        starter = "torchrun or a checkout's dist_train.sh" if launcher == "pytorch" else "srun"
        found = "is not set" if value is None else f"is '{value}', not a number"
        raise ConfigError(
            f"--launcher {launcher}: the environment variable {name} {found}; start with {starter}"
        )
    return int(value)


def _first_host(node_list: str) -> str:
    """The first host of SLURM's compressed list of nodes, such as ``node[3-7]``."""
    command = ["scontrol", "show", "hostname", node_list]
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise ConfigError(
            f"--launcher slurm: 'scontrol show hostname {node_list}' failed ({error}); "
            "set MASTER_ADDR to the first node's name"
        ) from None
    return output.split()[0]


def _connect(world: World, backend: str, tcp_port: int, waiting_mins: float) -> None:
    """Open the process group of ``world``."""
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", str(tcp_port))
    try:
        dist.init_process_group(
            backend,
            rank=world.rank,
            world_size=world.size,
            timeout=TIMEOUT + datetime.timedelta(minutes=waiting_mins),
        )
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"process {world.rank} of {world.size} could not join the others at {where} "
            f"by {backend} ({reason}); is another run using the port? choose one with --tcp_port"
        ) from None
