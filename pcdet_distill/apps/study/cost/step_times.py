"""How long a training step of each row takes, measured so that it can be compared.

The seconds of whole trainings have noise: the same training cost 384 and 435 s on the same machine.
So every row is measured once for each study and machine, in turns with one row that stays the
same, the reference: a step of the row, a step of the reference, and so on. A busy moment of the
machine then affects both alike, and both see the same frames. What is kept is the ratio of the two.

A step is the engine's own: load a batch, augment it, forward, backward, update the weights. It is
measured in four parts of the training, because terms may end early or change their weight. The step
time is the mean of the four medians. What comes before the first step is measured too:
INIT_STUDENT, and the teacher's pass over all frames for a cache of its predictions.

Not counted: steps that differ from most others, such as the measurement of gradients for a weight
that keeps its share. Use the measured seconds to see them.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import TypedDict

import torch

from ....config import find_file
from ....datasets import build_dataset
from ....engine.cli.arguments import add_train_arguments
from ....engine.distributed import World
from ....engine.loop import Trainer
from ....engine.resources import keep_freed_memory
from ....engine.run import Run as EngineRun
from ....engine.setup import build_trainer
from ....inference import load_model
from ....models import load_data_to_device
from ....models.device import choose_device
from ....types import BatchDict
from ...tools import read_experiment
from ..plan import Run, StudyPlan

PARTS = 4  # of the training
TURNS = 9  # measured steps in each part
WARM_UP = 2  # steps that are not counted
TEACHER_FRAMES = 8  # frames of the teacher's pass that is timed for a cache
THREADS = "OMP_NUM_THREADS"
Step = Callable[[float], object]  # runs one step at a share of the training from 0 to 1


class StepTime(TypedDict):
    """The cost of a row, as kept in step_times.json."""

    step_s: float  # median seconds of a training step
    steps: int  # steps of an epoch
    once_s: float  # seconds before the first step


class Stopwatch:
    """Processor seconds of this process on a CPU; on a GPU seconds until it has finished."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def now(self) -> float:
        """The time at this moment."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            return time.perf_counter()
        return time.process_time()

    def time(self, step: Step, progress: float) -> float:
        """Seconds of one step."""
        start = self.now()
        step(progress)
        return self.now() - start


def in_turns(step: Step, reference: Step, watch: Stopwatch) -> tuple[float, float]:
    """Seconds of a step and of the reference's: each the mean over the parts of the medians."""
    for _ in range(WARM_UP):
        step(0.0)
        reference(0.0)
    times: list[float] = []
    reference_times: list[float] = []
    for part in range(PARTS):
        progress = (part + 0.5) / PARTS
        of_part: list[float] = []
        reference_of_part: list[float] = []
        for _ in range(TURNS):
            of_part.append(watch.time(step, progress))
            reference_of_part.append(watch.time(reference, progress))
        times.append(statistics.median(of_part))
        reference_times.append(statistics.median(reference_of_part))
    return statistics.fmean(times), statistics.fmean(reference_times)


class TimedTraining:
    """The training of a run, of which only some steps are done. Only a cache is written."""

    def __init__(self, plan: StudyPlan, run: Run) -> None:
        self.trainer = _build(plan, run)
        self._batches = self._endless_batches()

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return self.trainer.batches.per_epoch

    @property
    def once_s(self) -> float:
        """Seconds of INIT_STUDENT, and of reading a cache."""
        cost = self.trainer.data_cost + self.trainer.init_cost
        return cost.cpu_s if self.trainer.device.type == "cpu" else cost.wall_s

    def step(self, progress: float) -> None:
        """Load the next batch and train on it as at this share of the training."""
        batches = next(self._batches)
        self.trainer.set_learning_rate()
        self.trainer.model.set_progress(progress)
        self.trainer.train_step(batches)

    def start_over(self) -> None:
        """Go back to the first batch; frames differ in their points, so in their seconds."""
        self._batches = self._endless_batches()

    def _endless_batches(self) -> Iterator[list[BatchDict]]:
        """The batches of epoch after epoch."""
        for epoch in count():
            yield from self.trainer.batches.iterations(epoch)


class StepTimer:
    """Measures rows of a study, each against its reference row."""

    def __init__(self, plan: StudyPlan, reference: str) -> None:
        self.plan = plan
        self.device = choose_device(plan.options.device)
        self.watch = Stopwatch(self.device)
        keep_freed_memory(self.device)
        with _one_thread():
            self.reference = TimedTraining(plan, plan.run(reference))

    def measure_reference(self) -> StepTime:
        """The step time of the reference row."""
        with _one_thread():
            step_s, _ = in_turns(self.reference.step, self.reference.step, self.watch)
            return {
                "step_s": step_s,
                "steps": self.reference.steps,
                "once_s": self.reference.once_s,
            }

    def measure(self, row: str, reference_s: float) -> StepTime:
        """The step time of a row, whose teacher must be trained.

        Args:
            reference_s: seconds of a step of the reference as ``measure_reference`` found them,
                perhaps at another hour. Only the ratio to the reference is measured here.
        """
        with _one_thread():
            run = self.plan.run(row)
            if self.plan.has_cache(run.row):
                TimedTraining(self.plan, run)  # makes the cache, which is counted below
            training = TimedTraining(self.plan, run)
            self.reference.start_over()  # both see the same frames
            step_s, own_reference_s = in_turns(training.step, self.reference.step, self.watch)
            scale = reference_s / own_reference_s
            once_s = (training.once_s + self._cache_s(run)) * scale
            return {"step_s": step_s * scale, "steps": training.steps, "once_s": once_s}

    def _cache_s(self, run: Run) -> float:
        """Seconds of the teacher's pass over all training frames; 0 for a row without a cache."""
        if not self.plan.has_cache(run.row) or run.teacher_ckpt is None:
            return 0.0
        _, *settings = self.plan.settings(run, self.plan.spec.evaluate[0])
        student = read_experiment(run.row.config, self.plan.root, settings)
        pairs = [
            *("DATA_CONFIG.DATA_PATH", str(student.DATA_CONFIG.DATA_PATH)),
            *("DATA_CONFIG.DATA_SPLIT.test", student.DATA_CONFIG.DATA_SPLIT["train"]),
            *("DATA_CONFIG.INFO_PATH.test", ",".join(student.DATA_CONFIG.INFO_PATH["train"])),
        ]
        cfg = read_experiment(student.DISTILL.TEACHER.CFG_FILE, self.plan.root, pairs)
        dataset = build_dataset(
            cfg.DATA_CONFIG, cfg.CLASS_NAMES, root_dir=self.plan.root, training=False
        )
        checkpoint = self.plan.root / run.teacher_ckpt
        teacher = load_model(cfg, dataset, checkpoint, self.device)
        times = []
        for index in range(min(TEACHER_FRAMES, len(dataset))):
            start = self.watch.now()
            batch = dataset.collate_batch([dataset[index]])
            load_data_to_device(batch, self.device)
            with torch.no_grad():
                teacher(batch)
            times.append(self.watch.now() - start)
        return statistics.median(times) * len(dataset)


def _build(plan: StudyPlan, run: Run) -> Trainer:
    """The Trainer that the run's command would build, in a folder that does not exist."""
    arguments = plan.train_command(run)
    flags = arguments[arguments.index("--cfg_file") :]
    args = add_train_arguments(argparse.ArgumentParser()).parse_args(flags)
    args.cfg_file = str(find_file(run.row.config, near=plan.root))
    if args.teacher_ckpt is not None:
        args.teacher_ckpt = str(plan.root / args.teacher_ckpt)
    device = choose_device(plan.options.device)
    if device.type == "cpu":
        args.workers = 0  # the seconds of this process are all that is measured
    _, *settings = plan.settings(run, plan.spec.evaluate[0])
    cfg = read_experiment(run.row.config, plan.root, settings)
    folder = plan.folder / ".step_times" / run.name
    silent = logging.getLogger(f"{__name__}.silent")
    silent.setLevel(logging.CRITICAL + 1)
    engine_run = EngineRun(args, cfg, folder, device, World(), silent)
    return build_trainer(engine_run)


@contextmanager
def _one_thread() -> Iterator[None]:
    """As many threads as the trainings have: OMP_NUM_THREADS, or one."""
    before = os.environ.get(THREADS)
    threads = torch.get_num_threads()
    os.environ.setdefault(THREADS, "1")
    torch.set_num_threads(int(os.environ[THREADS]))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if before is None:
            del os.environ[THREADS]
