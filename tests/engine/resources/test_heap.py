"""On a CPU the allocator keeps freed memory. On a GPU, or set up by the user, it is left alone."""

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

# Counts the page faults of blocks of 64 MB: each page that the system clears is one.
COUNT_FAULTS = f"""
import resource
import sys
import torch
from pcdet_distill.engine.resources.heap import keep_freed_memory

def page_faults(blocks):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(blocks):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
kept = keep_freed_memory(torch.device(sys.argv[1]))
first = page_faults(1)
page_faults({BLOCKS})
print(kept, page_faults({BLOCKS}) / first)
"""


def run_in_new_process(device: str, **variables: str) -> tuple[bool, float]:
    """Call ``keep_freed_memory``, then use ``BLOCKS`` blocks one after the other.

    Returns:
        What the function returned, and how many of the blocks the system cleared.
    """
    environment = dict(os.environ)
    for name in heap.CHOSEN_BY_USER:
        environment.pop(name, None)
    environment.update(variables)
    command = [sys.executable, "-c", COUNT_FAULTS, device]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    kept, cleared_blocks = done.stdout.split()
    return kept == "True", float(cleared_blocks)


@glibc_only
def test_freed_blocks_are_used_again() -> None:
    kept, cleared_blocks = run_in_new_process("cpu")
    assert kept
    assert cleared_blocks < 0.5


@glibc_only
@pytest.mark.parametrize(
    ("device", "variables"), [("cuda", {}), ("cpu", {"MALLOC_TRIM_THRESHOLD_": "100000"})]
)
def test_otherwise_the_allocator_is_left_alone(device: str, variables: dict[str, str]) -> None:
    kept, cleared_blocks = run_in_new_process(device, **variables)
    assert not kept
    assert cleared_blocks > 0.9 * BLOCKS


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap.sys, "platform", "darwin")
    assert not heap.keep_freed_memory(torch.device("cpu"))
