"""Before any training: build what every recipe trains, on the CPU, and let it look at its first and its last frame.

The teacher is not trained yet, so its checkpoint is one of random weights; whether all of it fits shows nevertheless.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from ...checkpoint import save_checkpoint
from ...config import load_config
from ...datasets import DataSpec, build_dataset
from ...engine.build import build_model, build_trained_model
from ...errors import ConfigError, UserError
from ...models import load_data_to_device
from .plan import Run, StudyPlan
from .spec import TEACHER


def check_runs(plan: StudyPlan, runs: Sequence[Run], say: Callable[[str], None]) -> None:
    """Raise a ConfigError that lists every row that cannot be trained; warn of what else goes wrong."""
    rows = {run.row.name: run for run in runs}
    say(f"checking {len(rows)} rows before any training")
    problems = []
    logger = logging.getLogger(f"{__name__}.silent")
    with tempfile.TemporaryDirectory() as folder, _without_log():
        for name, run in rows.items():
            try:
                _look(plan, run, Path(folder), logger)
            except UserError as error:
                problems.append(f"{'TEACHER' if name == TEACHER else 'ROWS.' + name}: {error}")
            except (
                Exception
            ) as error:  # a fault of the software: the run itself will tell, in the table
                say(f"warning: {name}: {type(error).__name__}: {error}")
    if problems:
        raise ConfigError(
            f"{plan.spec.file}: nothing was trained, because this cannot be:\n  "
            + "\n  ".join(problems)
        )


@contextmanager
def _without_log() -> Iterator[None]:
    """What the models say of an untrained teacher is of no interest."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _look(plan: StudyPlan, run: Run, folder: Path, logger: logging.Logger) -> None:
    """Build what a run trains as the training does, and take a step's loss of it."""
    command = plan.train_command(run)
    cfg = load_config(plan.root / run.row.config, command[command.index("--set") + 1 :])
    dataset = build_dataset(cfg.DATA_CONFIG, cfg.CLASS_NAMES, root_dir=cfg.ROOT_DIR, training=True)
    model = build_trained_model(
        cfg, dataset, teacher_ckpt=_untrained_teacher(plan, run, folder), logger=logger
    )
    batch = dataset.collate_batch(
        [dataset[index] for index in (0, len(dataset) - 1)]
    )  # frames without labels end
    if getattr(model, "student_init", None) is not None:
        model.init_student([dict(batch)], logger)  # type: ignore[operator]
    load_data_to_device(batch, torch.device("cpu"))
    model.train()(batch)


def _untrained_teacher(plan: StudyPlan, run: Run, folder: Path) -> str | None:
    """A checkpoint of the right shapes for a run that learns from a teacher; one that is there is taken itself."""
    if run.teacher_ckpt is None:
        return None
    if (plan.root / run.teacher_ckpt).is_file():
        return str(plan.root / run.teacher_ckpt)
    row = run.row.teacher
    path = folder / f"{row}.pth"
    if not path.exists():
        cfg = plan.configs[row]
        detector = build_model(cfg, DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES))
        save_checkpoint(detector.checkpoint_state(), path)  # type: ignore[operator]
    return str(path)
