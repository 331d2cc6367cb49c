"""Trainings that are killed, or asked to stop, at random moments of all their phases."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pcdet_distill.errors import EXIT_INTERRUPTED, EXIT_STOPPED

from .children import Child
from .outcomes import HELD, LOST, SAID, Trial
from .small_training import SmallTraining

START_UP, STEPS, WRITING, EVALUATION = PHASES = (
    "at start-up",
    "between steps",
    "while a checkpoint is written",
    "in the evaluation",
)
TRAINING_BEGINS = "start training"
TRAINING_ENDS = "end of training"
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
KILLS_IN_A_ROW = 8  # at most, before a training may end
LONGEST_WRITING_SECONDS = 0.004


@dataclass(frozen=True)
class Durations:
    """Seconds of the phases in an undisturbed run."""

    start_up: float
    steps: float
    evaluation: float


def measure(training: SmallTraining) -> Durations:
    """Let one training run through in a child, and take the times of its phases."""
    begin = time.monotonic()
    child = training.start("measured")
    child.wait_until(lambda: TRAINING_BEGINS in child.output)
    started = time.monotonic()
    child.wait_until(lambda: TRAINING_ENDS in child.output)
    trained = time.monotonic()
    if child.wait() != 0:
        raise RuntimeError(f"the undisturbed run ended with {child.code}: {child.errors}")
    problem = training.difference("measured")
    if problem:
        raise RuntimeError(f"two undisturbed runs differ: {problem}")
    return Durations(started - begin, trained - started, time.monotonic() - trained)


def kill_trials(
    training: SmallTraining, durations: Durations, number: int, seed: int
) -> Iterator[Trial]:
    """SIGKILL ``number`` times. After one to eight a training may end, and is compared."""
    killed = 0
    chain = 0
    while killed < number:
        chain_seed = seed + chain
        faults = kill_in_a_row(training, durations, chain_seed, number - killed)
        problem = training.finish("killed")
        for fault in faults:
            yield Trial(fault, LOST if problem else HELD, problem, chain_seed)
        remove(training, "killed")
        killed += len(faults)
        chain += 1


def kill_in_a_row(training: SmallTraining, durations: Durations, seed: int, most: int) -> list[str]:
    """Kill one training up to eight times, each restart too; where it was each time."""
    draw = random.Random(seed)
    faults = []
    for _ in range(min(most, draw.randint(1, KILLS_IN_A_ROW))):
        child = training.start("killed", workers=draw.choice((0, 0, 0, 1)))
        wait_for_moment(child, training.outputs() / "killed", durations, draw)
        child.send(signal.SIGKILL)
        if child.wait() == -signal.SIGKILL:
            faults.append(f"SIGKILL {phase_of(child, training.outputs() / 'killed')}")
    return faults


def signal_trials(
    training: SmallTraining, durations: Durations, number: int, seed: int
) -> Iterator[Trial]:
    """The three signals in turn, at random moments; after each the training is restarted."""
    sent = 0
    attempt = 0
    while sent < number:
        draw = random.Random(seed + attempt)
        attempt += 1
        which = SIGNALS[sent % len(SIGNALS)]
        child = training.start("stopped")
        wait_for_moment(child, training.outputs() / "stopped", durations, draw)
        if not child.has_ended():
            child.send(which)
            yield signal_trial(training, child, which, seed + attempt - 1)
            sent += 1
        child.wait()
        remove(training, "stopped")


def signal_trial(training: SmallTraining, child: Child, which: signal.Signals, seed: int) -> Trial:
    """What a signal did, and what a restart made of it."""
    phase = phase_of(child, training.outputs() / "stopped")
    fault = f"{which.name} {phase}"
    code = child.wait()
    problem = training.finish("stopped")
    if problem:
        return Trial(fault, LOST, problem, seed)
    if code == 0 or (code == -which and phase == START_UP):
        return Trial(fault, HELD, "", seed)  # too late to matter, or Python was not yet ours
    if code in (EXIT_STOPPED, EXIT_INTERRUPTED) and child.spoke_plainly():
        return Trial(fault, SAID, child.sentence.replace(str(training.folder), "..."), seed)
    return Trial(fault, LOST, f"exit code {code}: {child.sentence}", seed)


def wait_for_moment(child: Child, folder: Path, durations: Durations, draw: random.Random) -> None:
    """Wait for a random moment of a random phase, or for the end of the child."""
    phase = draw.choice(PHASES)
    if phase == START_UP:
        sleep_beside(child, draw.uniform(0, durations.start_up))
    elif phase == EVALUATION:
        if child.wait_until(lambda: TRAINING_ENDS in child.output):
            sleep_beside(child, draw.uniform(0, durations.evaluation))
    elif child.wait_until(lambda: TRAINING_BEGINS in child.output):
        sleep_beside(child, draw.uniform(0, durations.steps))
        if phase == WRITING:
            child.wait_until(lambda: is_writing(folder))
            time.sleep(draw.uniform(0, LONGEST_WRITING_SECONDS))


def sleep_beside(child: Child, seconds: float) -> None:
    """Sleep, but not longer than the child runs."""
    end = time.monotonic() + seconds
    child.wait_until(lambda: time.monotonic() > end)


def is_writing(folder: Path) -> bool:
    """Whether a checkpoint is half written."""
    return any((folder / "ckpt").glob(".*.partial"))


def phase_of(child: Child, folder: Path) -> str:
    """Where a child is, or where it ended."""
    if is_writing(folder):
        return WRITING
    if TRAINING_ENDS in child.output:
        return EVALUATION
    return STEPS if TRAINING_BEGINS in child.output else START_UP


def remove(training: SmallTraining, tag: str) -> None:
    """Delete the output and the cached teacher of a trial."""
    shutil.rmtree(training.outputs() / tag, ignore_errors=True)
    shutil.rmtree(training.cache(tag), ignore_errors=True)
