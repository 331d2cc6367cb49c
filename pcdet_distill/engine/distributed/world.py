"""One process or many: who am I, and how do we talk. The only module of the engine that touches torch.distributed.

Launchers are OpenPCDet's: ``none``, ``pytorch`` (torchrun's environment variables) and ``slurm`` (SLURM's).
Processes speak nccl on CUDA and gloo on a CPU.
"""

from __future__ import annotations

import datetime
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from ...errors import ConfigError
from ...processes import die_with_parent

PATIENCE = datetime.timedelta(
    minutes=60
)  # rank 0 may score an evaluation while the others wait for it
PEER_GONE = (
    "onnection closed by peer",
    "onnection reset by peer",
    "roken pipe",
)  # gloo's and nccl's words


@dataclass(frozen=True)
class World:
    """The place of this process among all of them."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def is_main(self) -> bool:
        """True in the one process that writes files and speaks to the user."""
        return self.rank == 0

    def broadcast(self, value: Any) -> Any:
        """Rank 0's ``value``, in every process."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        """The ``value`` of every process, in the order of the ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Return when every process has come here."""
        if self.size > 1:
            dist.barrier()


def _whole_number(name: str, launcher: str) -> int:
    """The environment variable ``name`` as a number, or a sentence about the launcher that should have set it."""
    value = os.environ.get(name)
    if value is None or not value.isdigit():
        starter = "tools/scripts/dist_train.sh or torchrun" if launcher == "pytorch" else "srun"
        found = "is not set" if value is None else f"is '{value}', not a number"
        raise ConfigError(
            f"--launcher {launcher}: the environment variable {name} {found}; start with {starter}"
        )
    return int(value)


def _pytorch_world(local_rank: int) -> World:
    """The world torchrun describes; ``local_rank`` (--local_rank) counts when LOCAL_RANK is not set."""
    size = _whole_number("WORLD_SIZE", "pytorch")
    return World(
        rank=_whole_number("RANK", "pytorch"),
        size=size,
        local_rank=_whole_number("LOCAL_RANK", "pytorch")
        if "LOCAL_RANK" in os.environ
        else local_rank,
        local_size=int(os.environ.get("LOCAL_WORLD_SIZE", size)),
    )


def _first_host(node_list: str) -> str:
    """The first host name of SLURM's compressed list, by SLURM's own tool."""
    try:
        answer = subprocess.run(
            ["scontrol", "show", "hostname", node_list], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise ConfigError(
            f"--launcher slurm: 'scontrol show hostname {node_list}' failed ({error}); set MASTER_ADDR "
            "to the first node's name"
        ) from None
    return answer.stdout.split()[0]


def _slurm_world() -> World:
    """The world SLURM describes."""
    if "MASTER_ADDR" not in os.environ:
        node_list = os.environ.get("SLURM_NODELIST", "")
        if not node_list:
            raise ConfigError(
                "--launcher slurm: the environment variable SLURM_NODELIST is not set; start with srun"
            )
        os.environ["MASTER_ADDR"] = _first_host(node_list)
    size = _whole_number("SLURM_NTASKS", "slurm")
    local_size = os.environ.get("SLURM_NTASKS_PER_NODE", "")
    return World(
        rank=_whole_number("SLURM_PROCID", "slurm"),
        size=size,
        local_rank=_whole_number("SLURM_LOCALID", "slurm"),
        local_size=int(local_size) if local_size.isdigit() else size,
    )


def _connect(world: World, backend: str, tcp_port: int, waiting_mins: float) -> None:
    """Open the process group of ``world``."""
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", str(tcp_port))
    try:
        dist.init_process_group(
            backend,
            rank=world.rank,
            world_size=world.size,
            timeout=PATIENCE + datetime.timedelta(minutes=waiting_mins),
        )
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"process {world.rank} of {world.size} could not join the others at {where} by {backend} "
            f"({reason}); is another run using the port? choose one with --tcp_port"
        ) from None


@contextmanager
def join_world(
    launcher: str,
    device_name: str | None,
    tcp_port: int,
    local_rank: int = 0,
    waiting_mins: float = 0,
) -> Iterator[World]:
    """Join the processes started by ``launcher`` and leave them at the end; with ``none`` nothing is opened.

    ``device_name`` (--device) decides between nccl and gloo; ``waiting_mins`` prolongs how long one waits for another.
    """
    if launcher == "none":
        yield World()
        return
    if launcher == "pytorch":
        die_with_parent()  # the launcher; SLURM looks after its processes itself
    world = _pytorch_world(local_rank) if launcher == "pytorch" else _slurm_world()
    on_cuda = torch.cuda.is_available() and not (device_name or "").startswith("cpu")
    _connect(world, "nccl" if on_cuda else "gloo", tcp_port, waiting_mins)
    try:
        yield world
        world.barrier()  # leave together: a process that is still talking must find the others
    except RuntimeError as error:
        if not any(sign in str(error) for sign in PEER_GONE):
            raise
        raise ConfigError(
            f"process {world.rank} of {world.size} stopped, because another one ended"
        ) from None
    finally:
        dist.destroy_process_group()
