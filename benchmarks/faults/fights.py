"""Two processes that want the same folder, and clocks that go backwards."""

from __future__ import annotations

import datetime
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from pcdet_distill import cli
from pcdet_distill.errors import EXIT_USER_ERROR

from .children import Child
from .kills import Durations, remove, wait_for_moment
from .outcomes import HELD, LOST, SAID, Trial
from .small_training import EPOCHS, STEPS, SmallTraining

DAY_SECONDS = 86400.0
ALL_DONE = f"{STEPS} iterations of {STEPS} are done"


def fight_trials(
    training: SmallTraining, durations: Durations, number: int, seed: int
) -> Iterator[Trial]:
    """Each pair of commands ``number`` times, the second one begun a little later."""
    for attempt in range(seed, seed + number):
        delay = random.Random(attempt).uniform(0, durations.start_up)
        yield two_trainings(training, delay / 2, attempt)
        yield one_cache(training, delay, attempt)
        yield two_preparations(training, random.Random(attempt).uniform(0, 0.2), attempt)
        yield two_evaluations(training, delay / 2, attempt)


def two_trainings(training: SmallTraining, delay: float, seed: int) -> Trial:
    """Two trainings in one output folder: one is refused, the other ends undisturbed."""
    fault = "two trainings in one output folder"
    first = training.start("fight", name="first")
    time.sleep(delay)
    second = training.start("fight", name="second")
    children = (first, second)
    codes = sorted(child.wait() for child in children)
    problem = training.difference("fight")
    remove(training, "fight")
    if codes == [0, 0] and not problem and any(ALL_DONE in child.output for child in children):
        return Trial(fault, HELD, "", seed)  # the first had ended when the second began
    if problem or codes != [0, EXIT_USER_ERROR]:
        return Trial(fault, LOST, problem or f"exit codes {codes}", seed)
    refused = first if first.code else second
    outcome = SAID if refused.spoke_plainly() else LOST
    return Trial(fault, outcome, refused.sentence.replace(str(training.folder), "..."), seed)


def one_cache(training: SmallTraining, delay: float, seed: int) -> Trial:
    """Two trainings that compute the same cache of a teacher."""
    fault = "two trainings that fill one cache of a teacher"
    shared = ["DISTILL.TEACHER.CACHE_DIR", str(training.cache("shared"))]
    children = []
    for tag in ("one", "other"):
        arguments = [*training.arguments(tag)[:-2], *shared]
        children.append(Child(cli.train, arguments, training.logs / tag))
        time.sleep(delay / 4)
    trial = both_end(fault, children, training, seed)
    if trial.outcome != LOST:
        problem = training.difference("one") or training.difference("other")
        trial = Trial(fault, LOST, problem, seed) if problem else trial
    for tag in ("one", "other", "shared"):
        remove(training, tag)
    return trial


def two_preparations(training: SmallTraining, delay: float, seed: int) -> Trial:
    """Two preparations of one data folder: afterwards its info files are those of before."""
    fault = "two preparations of one data folder"
    before = info_files(training.data)
    config = str(Path(training.config).with_name("data.yaml"))
    children = []
    for name in ("first", "second"):
        children.append(Child(cli.data, ["kitti", config], training.logs / f"data-{name}"))
        time.sleep(delay)
    trial = both_end(fault, children, training, seed)
    if info_files(training.data) != before:
        return Trial(fault, LOST, "the info files differ", seed)
    return trial


def two_evaluations(training: SmallTraining, delay: float, seed: int) -> Trial:
    """Two evaluations of one checkpoint into one folder."""
    fault = "two evaluations of one checkpoint"
    checkpoint = training.outputs() / "undisturbed" / "ckpt" / f"checkpoint_epoch_{EPOCHS}.pth"
    words = ["--cfg_file", training.config, "--ckpt", str(checkpoint), "--workers", "0"]
    children = []
    for name in ("first", "second"):
        arguments = [*words, "--extra_tag", "tested"]
        children.append(Child(cli.test, arguments, training.logs / f"test-{name}"))
        time.sleep(delay)
    trial = both_end(fault, children, training, seed)
    (found,) = (training.outputs() / "tested").rglob("result.pkl")
    (expected,) = (training.outputs() / "undisturbed").rglob("result.pkl")
    if found.read_bytes() != expected.read_bytes():
        trial = Trial(fault, LOST, "another result.pkl", seed)
    shutil.rmtree(training.outputs() / "tested")
    return trial


def both_end(fault: str, children: list[Child], training: SmallTraining, seed: int) -> Trial:
    """At least one of two commands must end well, the other one too or with a sentence."""
    codes = [child.wait() for child in children]
    if codes == [0, 0]:
        return Trial(fault, HELD, "", seed)
    failed = children[0] if codes[0] else children[1]
    sentence = failed.sentence.replace(str(training.folder), "...")
    if sorted(codes) == [0, EXIT_USER_ERROR] and failed.spoke_plainly():
        return Trial(fault, SAID, sentence, seed)
    return Trial(fault, LOST, f"exit codes {codes}: {sentence}", seed)


def info_files(data: Path) -> dict[str, bytes]:
    """The files that a preparation writes last."""
    return {path.name: path.read_bytes() for path in data.glob("kitti_*")}


# --- Clocks ---------------------------------------------------------------------------------------


def clock_trials(
    training: SmallTraining, durations: Durations, number: int, seed: int
) -> Iterator[Trial]:
    """Kill a training whose clock jumps, give its files other dates, restart it a year earlier."""
    fault = "clock jumps back and forth by days; files dated at random"
    for attempt in range(seed, seed + number):
        draw = random.Random(attempt)
        words = training.arguments("clock")
        child = Child(cli.train, words, training.logs / "clock", WrongClock(attempt).install)
        wait_for_moment(child, training.outputs() / "clock", durations, draw)
        child.send(signal.SIGKILL)
        child.wait()
        for path in (training.outputs() / "clock").rglob("*"):
            dated = time.time() + draw.uniform(-1000, 1000) * DAY_SECONDS
            os.utime(path, (dated, dated))
        install = WrongClock(attempt, begin=-365 * DAY_SECONDS).install
        child = Child(cli.train, words, training.logs / "clock", install)
        child.wait()
        problem = training.difference("clock")
        if child.code != 0:
            problem = f"exit code {child.code}: {child.sentence}"
        yield Trial(fault, LOST if problem else HELD, problem, attempt)
        remove(training, "clock")


class WrongClock:
    """A wall clock that jumps by up to a day now and then, in this process alone.

    Args:
        seed: of the jumps.
        begin: seconds by which it is wrong at first.
    """

    def __init__(self, seed: int, begin: float = 0.0) -> None:
        self.draw = random.Random(seed)
        self.wrong_by = begin
        self.right = time.time

    def now(self) -> float:
        """The wrong time."""
        if self.draw.random() < 0.2:
            self.wrong_by += self.draw.uniform(-DAY_SECONDS, DAY_SECONDS)
        return self.right() + self.wrong_by

    def install(self) -> None:
        """Replace ``time.time`` and ``datetime.datetime.now``."""
        clock = self

        class WrongDate(datetime.datetime):
            @classmethod
            def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
                return datetime.datetime.fromtimestamp(clock.now(), tz)

        time.time = self.now
        datetime.datetime = WrongDate  # type: ignore[misc]
