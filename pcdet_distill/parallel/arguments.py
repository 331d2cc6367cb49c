"""The flags by which a command chooses its engine."""

from __future__ import annotations

import argparse
from typing import TypeVar

from ..errors import ConfigError
from .on_ray import RayEngine, RayOptions

Local = TypeVar("Local")
LOCAL = "local"
RAY = "ray"
OPTION_OF_FLAG = {
    "address": "address",
    "retries": "retries",
    "cpus_per_run": "cpus",
    "gpus_per_run": "gpus",
}


def add_engine_arguments(parser: argparse.ArgumentParser, *, jobs: bool = False) -> None:
    """Add ``--engine`` and what belongs to it.

    Args:
        jobs: the command runs jobs, which may need GPUs, and not frames.
    """
    group = parser.add_argument_group("where it runs")
    add = group.add_argument
    add(
        "--engine",
        choices=(LOCAL, RAY),
        default=LOCAL,
        help="local: on this machine; ray: on a Ray cluster, whose machines share this folder and "
        "the Python packages (default: local)",
    )
    add(
        "--address",
        default=None,
        help="of the Ray cluster: auto, HOST:PORT or ray://HOST:PORT (default: a cluster of this "
        "machine alone, which ends with the command)",
    )
    add(
        "--retries",
        type=int,
        default=None,
        help="how often Ray runs again what was lost with a worker or a machine (default: 3)",
    )
    if jobs:
        add("--cpus_per_run", type=float, default=None, help="cores of a run on Ray (default: 1)")
        add(
            "--gpus_per_run",
            type=float,
            default=None,
            help="GPUs of a run on Ray; 0.5 lets two runs share one (default: 1, and 0 with "
            "--device cpu)",
        )


def engine_of(args: argparse.Namespace, local: Local, *, gpus: float = 0.0) -> Local | RayEngine:
    """The engine that the flags ask for.

    Args:
        local: what works on this machine.
        gpus: GPUs of a job by default.
    """
    given = {}
    for flag, option in OPTION_OF_FLAG.items():
        value = getattr(args, flag, None)
        if value is not None:
            given[option] = value
            _check(args.engine, flag, value)
    if args.engine == LOCAL:
        return local
    return RayEngine(RayOptions(**{"gpus": gpus, **given}))


def _check(engine: str, flag: str, value: str | float) -> None:
    """Refuse a flag of Ray for another engine, and negative numbers."""
    if engine == LOCAL:
        raise ConfigError(f"--{flag}: only for --engine ray")
    if not isinstance(value, str) and value < 0:
        raise ConfigError(f"--{flag} {value}: expected 0 or more")
