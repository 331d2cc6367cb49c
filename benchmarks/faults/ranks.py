"""Two processes that train together, one of which is killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from .kills import remove
from .outcomes import HELD, LOST, Trial
from .small_training import SmallTraining

TAG = "ranks"
REFERENCE = "two-undisturbed"
MOST_SECONDS = 240.0
# torchrun itself gives the others 30 seconds before it kills them.
GONE_SECONDS = 60.0


def rank_trials(training: SmallTraining, number: int, seed: int) -> Iterator[Trial]:
    """Kill one of two processes ``number`` times, with and without an elastic restart."""
    begin = time.monotonic()
    if start(training, REFERENCE).wait(MOST_SECONDS) != 0:
        raise RuntimeError("two undisturbed processes do not end well")
    undisturbed = time.monotonic() - begin
    for attempt in range(seed, seed + number):
        if attempt % 2:
            yield killed_and_restarted_by_itself(training, undisturbed, attempt)
        else:
            yield killed_and_started_again(training, undisturbed, attempt)
        remove(training, TAG)


def start(training: SmallTraining, tag: str, *options: str) -> subprocess.Popen[bytes]:
    """The distillation in two processes, by the command line."""
    command = [sys.executable, "-m", "pcdet_distill", "train", "--nproc", "2", *options]
    log = (training.logs / f"{tag}.log").open("ab")
    return subprocess.Popen(
        [*command, *training.arguments(tag)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=log,
        stderr=log,
    )


def killed_and_started_again(training: SmallTraining, seconds: float, seed: int) -> Trial:
    """All processes end soon after one; the same command goes on."""
    fault = "SIGKILL of one of two processes, started again by hand"
    process = start(training, TAG)
    killed = kill_one(process, seconds, random.Random(seed))
    begin = time.monotonic()
    code = process.wait(MOST_SECONDS)
    lived_on = time.monotonic() - begin
    if killed and code == 0:
        return Trial(fault, LOST, "exit code 0", seed)
    if killed and lived_on > GONE_SECONDS:
        return Trial(fault, LOST, f"the others lived on for {lived_on:.0f} s", seed)
    if start(training, TAG).wait(MOST_SECONDS) != 0:
        return Trial(fault, LOST, "the restart failed", seed)
    return compared(training, fault, seed)


def killed_and_restarted_by_itself(training: SmallTraining, seconds: float, seed: int) -> Trial:
    """``--max_restarts 1``: the launcher starts both again, from the last checkpoint."""
    fault = "SIGKILL of one of two processes, --max_restarts 1"
    process = start(training, TAG, "--max_restarts", "1")
    kill_one(process, seconds, random.Random(seed))
    if process.wait(MOST_SECONDS) != 0:
        return Trial(fault, LOST, "it did not go on by itself", seed)
    return compared(training, fault, seed)


def compared(training: SmallTraining, fault: str, seed: int) -> Trial:
    """Whether the end is that of two undisturbed processes."""
    problem = training.difference(TAG, REFERENCE)
    return Trial(fault, LOST if problem else HELD, problem, seed)


def kill_one(process: subprocess.Popen[bytes], seconds: float, draw: random.Random) -> bool:
    """Kill a random process of the two at a random moment; False if both had ended."""
    moment = time.monotonic() + draw.uniform(0.3, 0.9) * seconds
    while process.poll() is None:
        ranks = ranks_of(process.pid)
        if ranks and time.monotonic() > moment:
            os.kill(draw.choice(ranks), signal.SIGKILL)
            return True
        time.sleep(0.01)
    return False


def ranks_of(launcher: int) -> list[int]:
    """The training processes that a launcher has started."""
    try:
        children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    except OSError:
        return []
    return [int(child) for child in children if has_rank(int(child))]


def has_rank(process: int) -> bool:
    """Whether a process trains: the launcher has other children too."""
    try:
        return b"\0LOCAL_RANK=" in b"\0" + Path(f"/proc/{process}/environ").read_bytes()
    except OSError:
        return False
