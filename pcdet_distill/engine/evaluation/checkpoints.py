"""Evaluate the checkpoints of a folder one after the other, as they are written."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

from torch.utils.data import DataLoader

from ...checkpoint import load_checkpoint
from ...datasets import DatasetTemplate
from ...errors import ConfigError
from ...models.trainable import TrainableModule
from ..checkpoints import next_unevaluated, wait_for
from ..logging import MetricWriter, writing
from ..run import Run
from .loop import EvalOutcome, evaluate_model
from .run_report import model_name, report_evaluation, source_of


@dataclass(frozen=True)
class Evaluator:
    """What stays the same from checkpoint to checkpoint.

    Attributes:
        run: device, processes, logger and command line.
        model: receives the weights of each checkpoint.
        loader: the frames of the test split.
        infer_time: also time the model alone.
    """

    run: Run
    model: TrainableModule
    loader: DataLoader
    infer_time: bool = False

    def evaluate(self, epoch_id: str | int, result_dir: Path) -> EvalOutcome:
        """Evaluate the model with its current weights, and write ``report.html``."""
        outcome = evaluate_model(
            self.model,
            self.loader,
            device=self.run.device,
            logger=self.run.logger,
            epoch_id=epoch_id,
            result_dir=result_dir,
            save_to_file=self.run.args.save_to_file,
            infer_time=self.infer_time,
            world=self.run.world,
        )
        if self.run.world.is_main:
            self._report(outcome, str(epoch_id), result_dir)
        return outcome

    def _report(self, outcome: EvalOutcome, epoch_id: str, result_dir: Path) -> None:
        """Write the page of this evaluation. Its figures have been logged and stored already."""
        run = self.run
        dataset = cast(DatasetTemplate, self.loader.dataset)
        facts = {"epoch": epoch_id}
        facts["whole evaluation"] = (
            f"{1000 * outcome.seconds_per_sample:.0f} ms a frame, loading included"
        )
        if outcome.infer_ms_per_sample is not None:
            facts["model alone"] = f"{outcome.infer_ms_per_sample:.1f} ms a frame (--infer_time)"
        page = report_evaluation(
            source_of(run),
            dataset,
            outcome.result,
            outcome.det_annos,
            result_dir,
            model=self.model,
            facts=facts,
            name=model_name(run, epoch_id),
            logger=run.logger,
        )
        if page is not None:
            run.logger.info(f"report: {page}")


def evaluate_checkpoints(
    evaluator: Evaluator,
    ckpt_dir: Path,
    folder: Path,
    *,
    start_epoch: int,
    waiting_mins: float,
    last_epoch: int | None = None,
) -> dict[int, EvalOutcome]:
    """Evaluate all epoch checkpoints that have not been evaluated yet, the earliest first.

    Args:
        evaluator: model and data.
        ckpt_dir: folder of the checkpoints.
        folder: receives the results and the list of evaluated epochs.
        start_epoch: earlier checkpoints are left out.
        waiting_mins: minutes to wait for each further checkpoint.
        last_epoch: after this one there is nothing to wait for.

    Returns:
        The outcomes by epoch.
    """
    run = evaluator.run
    split = run.test_split
    record = evaluated_list(folder, split)
    outcomes: dict[int, EvalOutcome] = {}
    while True:
        # Rank 0 decides, so that all processes evaluate the same checkpoint.
        found = None
        if run.world.is_main:
            done = read_evaluated(record)
            minutes = 0 if last_epoch in done else waiting_mins
            find = partial(next_unevaluated, ckpt_dir, done, start_epoch)
            found = wait_for(find, minutes, run.logger.info, f"a checkpoint in {ckpt_dir}")
        found = run.world.broadcast(found)
        if found is None:
            return outcomes
        epoch, path = found
        evaluator.model.load_checkpoint_state(load_checkpoint(path), str(path))
        outcomes[epoch] = evaluator.evaluate(epoch, folder / f"epoch_{epoch}" / split)
        if run.world.is_main:
            _record(epoch, outcomes[epoch], record, folder / f"tensorboard_{split}")
            run.logger.info(f"Epoch {epoch} has been evaluated")
        run.world.barrier()


def evaluated_list(folder: Path, split: str) -> Path:
    """The file in ``folder`` that lists the evaluated epochs."""
    return folder / f"eval_list_{split}.txt"


def read_evaluated(record: Path) -> list[int]:
    """The epochs listed in the file ``record``."""
    if not record.is_file():
        return []
    try:
        return [int(float(line)) for line in record.read_text().split()]
    except ValueError as error:
        raise ConfigError(
            f"{record}: expected the number of an epoch on each line ({error}); "
            "delete the file to evaluate all checkpoints again"
        ) from None


def _record(epoch: int, outcome: EvalOutcome, record: Path, tensorboard_dir: Path) -> None:
    """Write the outcome to metrics.jsonl and TensorBoard, then add ``epoch`` to the list."""
    writer = MetricWriter(record.parent / "metrics.jsonl", tensorboard_dir)
    writer.write("eval", epoch, outcome.ret_dict, outcome.ret_dict)
    writer.close()
    with writing(record), record.open("a") as file:
        file.write(f"{epoch}\n")
