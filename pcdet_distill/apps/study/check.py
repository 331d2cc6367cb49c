"""Before any training: build what every row trains, on the CPU, and compute the loss of two frames.

The teacher is usually not trained yet; a checkpoint of random weights of the same shapes takes its
place. It shows whether the parts fit together just as well.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from ...checkpoint import load_checkpoint, save_checkpoint
from ...datasets import DataSpec, build_dataset
from ...engine.build import build_model, build_trained_model
from ...engine.distributed import World
from ...errors import ConfigError, UserError
from ...models import load_data_to_device
from ...types import BatchDict
from ..tools import read_experiment
from .data import all_data_commands, data_commands, run_data_commands, with_few_frames
from .plan import Run, StudyPlan
from .spec import TEACHER


def check_study(plan: StudyPlan, log: Callable[[str], None]) -> None:
    """Check every row of a study, trained or not; a handful of frames stands for missing data."""
    if not data_commands(plan):
        check_runs(plan, plan.runs(), log)
        return
    with _few_frames(plan, log) as small:
        _refuse(plan, _problems(small, small.runs(), log, has_few_frames=True))


def check_runs(plan: StudyPlan, runs: Sequence[Run], log: Callable[[str], None]) -> None:
    """Raise a ConfigError that lists every row that cannot be trained.

    Args:
        runs: the runs to come; one of each row is checked.
        log: receives progress lines, and a warning for every unexpected exception. Such a run is
            started nevertheless, and its failure stands in the table.
    """
    # A cache is made of all frames, and must not be made by a teacher of random weights.
    is_simulated = plan.spec.data.frames is not None
    cached = [run for run in runs if is_simulated and plan.has_cache(run.row)]
    problems = _problems(plan, [run for run in runs if run not in cached], log)
    if cached:
        with _few_frames(plan, log) as small:
            few = [small.run(run.row.name, run.seed) for run in cached]
            problems += _problems(small, few, log, has_few_frames=True)
    _refuse(plan, problems)


@contextmanager
def _few_frames(plan: StudyPlan, log: Callable[[str], None]) -> Iterator[StudyPlan]:
    """The same study on a handful of simulated frames."""
    with tempfile.TemporaryDirectory() as folder:
        small = with_few_frames(plan, Path(folder))
        run_data_commands(all_data_commands(small), plan.root, log, quiet=True)
        yield small


def _problems(
    plan: StudyPlan,
    runs: Sequence[Run],
    log: Callable[[str], None],
    *,
    has_few_frames: bool = False,
) -> list[str]:
    """A sentence for each row that cannot be trained.

    One run of each row is tried, and of rows that differ in their epochs alone the first row.
    """
    rows: dict[str, Run] = {}
    for run in runs:
        if not any(plan.same_training(run.row, other.row) for other in rows.values()):
            rows.setdefault(run.row.name, run)
    log(f"checking before any training: {', '.join(rows)}")
    problems = []
    with tempfile.TemporaryDirectory() as folder, _logging_disabled():
        for name, run in rows.items():
            try:
                if run.is_trained:
                    _check_training(plan, run, Path(folder), has_few_frames=has_few_frames)
                else:
                    _check_given_checkpoint(plan, run)
            except UserError as error:
                place = "TEACHER" if name == TEACHER else f"ROWS.{name}"
                problems.append(f"{place}: {error}")
            except Exception as error:
                log(f"warning: {name}: {type(error).__name__}: {error}")
    return problems


def _refuse(plan: StudyPlan, problems: Sequence[str]) -> None:
    """Raise a ConfigError when there are problems."""
    if problems:
        listed = "\n  ".join(problems)
        raise ConfigError(
            f"{plan.spec.file}: nothing was trained, because this cannot be trained:\n  {listed}"
        )


@contextmanager
def _logging_disabled() -> Iterator[None]:
    """Without the warnings about a teacher that detects nothing: it is not trained yet."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


@dataclass(frozen=True)
class _TwoFrames:
    """Stands for the training data when a student is initialised from its teacher."""

    class_names: Sequence[str]
    batch: BatchDict

    def first_frames(self, count: int) -> list[BatchDict]:
        """The two frames, however many are asked for."""
        return [dict(self.batch)]


def _check_training(plan: StudyPlan, run: Run, folder: Path, *, has_few_frames: bool) -> None:
    """Build what a run trains as the training does, and compute the loss of one step.

    A row with a cached teacher computes a loss only on a handful of frames: its cache is made
    first.
    """
    _, *settings = plan.settings(run, plan.spec.evaluate[0])
    cfg = read_experiment(run.row.config, plan.root, settings)
    logger = logging.getLogger(f"{__name__}.silent")
    dataset = build_dataset(cfg.DATA_CONFIG, cfg.CLASS_NAMES, root_dir=cfg.ROOT_DIR, training=True)
    teacher_ckpt = _teacher_checkpoint(plan, run, folder)
    model = build_trained_model(cfg, dataset, teacher_ckpt=teacher_ckpt, logger=logger)
    if has_few_frames:
        model.prepare_data(World(), logger)
    elif plan.has_cache(run.row):
        return
    # Frames without labels come last in the dataset: both kinds are tried.
    batch = dataset.collate_batch([dataset[0], dataset[len(dataset) - 1]])
    model.init_before_training(_TwoFrames(dataset.class_names, batch), logger)
    load_data_to_device(batch, torch.device("cpu"))
    model.train()(batch)


def _check_given_checkpoint(plan: StudyPlan, run: Run) -> None:
    """A given teacher must exist and fit its yaml."""
    cfg = plan.configs[run.row.name]
    detector = build_model(cfg, DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES))
    path = plan.root / run.checkpoint
    detector.load_checkpoint_state(load_checkpoint(path), str(path))


def _teacher_checkpoint(plan: StudyPlan, run: Run, folder: Path) -> str | None:
    """The checkpoint a run learns from, or one of random weights while it does not exist yet."""
    if run.teacher_ckpt is None:
        return None
    if (plan.root / run.teacher_ckpt).is_file():
        return str(plan.root / run.teacher_ckpt)
    teacher = run.row.teacher
    path = folder / f"{teacher}.pth"
    if not path.exists():
        cfg = plan.configs[teacher]
        detector = build_model(cfg, DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES))
        save_checkpoint(dict(detector.checkpoint_state()), path)
    return str(path)
