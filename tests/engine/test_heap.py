"""On a CPU the allocator keeps what is freed; on a GPU, or where the user has set it up, it is left alone."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest
import torch

from pcdet_distill.engine.resources import heap

glibc_only = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="there is no glibc here")
BLOCKS = 8
COUNT_FAULTS = f"""
import resource, sys, torch
from pcdet_distill.engine.resources.heap import keep_freed_memory
def faults(blocks):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(blocks):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
torch.set_num_threads(1)
kept = keep_freed_memory(torch.device(sys.argv[1]))
first = faults(1)
faults({BLOCKS})
print(kept, faults({BLOCKS}) / first)
"""


def ask_the_system(device: str, **variables: str) -> tuple[bool, float]:
    """What keep_freed_memory says; of BLOCKS blocks of 64 MB, used in turn, those that the system cleared."""
    environment = {
        name: value for name, value in os.environ.items() if name not in heap.CHOSEN_BY_USER
    }
    command = [sys.executable, "-c", COUNT_FAULTS, device]
    answer = subprocess.run(
        command, env=environment | variables, capture_output=True, text=True, check=True
    )
    kept, cleared = answer.stdout.split()
    return kept == "True", float(cleared)


@glibc_only
def test_freed_blocks_are_used_again() -> None:
    kept, cleared = ask_the_system("cpu")
    assert kept
    assert cleared < 0.5


@glibc_only
@pytest.mark.parametrize(
    ("device", "variables"), [("cuda", {}), ("cpu", {"MALLOC_TRIM_THRESHOLD_": "100000"})]
)
def test_otherwise_the_allocator_is_left_alone(device: str, variables: dict[str, str]) -> None:
    kept, cleared = ask_the_system(device, **variables)
    assert not kept
    assert cleared > 0.9 * BLOCKS


def test_elsewhere_there_is_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap.sys, "platform", "darwin")
    assert not heap.keep_freed_memory(torch.device("cpu"))
