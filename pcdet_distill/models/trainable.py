"""The contract between the engine and what it trains: a detector, or a Distiller around one.

The engine calls these methods on every model, whatever its class. A detector of this library
inherits them from ``TrainableModule``; a module of another library is wrapped by ``as_trainable``.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from torch import Tensor, nn

from ..checkpoint import LoadReport, load_model_state
from ..errors import CheckpointError
from ..types import BatchDict

# What a .pth file holds: "model_state", and beside it what else is needed to resume.
CheckpointState: TypeAlias = Mapping[str, Any]


class TrainingData(Protocol):
    """What a model may see of the training split before its first step."""

    @property
    def class_names(self) -> Sequence[str]:
        """Names of the classes; label 1 is the first one."""

    def first_frames(self, count: int) -> list[BatchDict]:
        """The first ``count`` frames of the first epoch, in batches of numpy arrays."""


class Processes(Protocol):
    """The processes that train together, as one of them sees them."""

    @property
    def rank(self) -> int:
        """Number of this process; 0 is the main one."""

    @property
    def size(self) -> int:
        """Number of processes."""

    def barrier(self) -> None:
        """Wait until every process has called this method."""


@dataclasses.dataclass(frozen=True)
class OneProcess:
    """A training of a single process."""

    rank: int = 0
    size: int = 1

    def barrier(self) -> None:
        """There is nobody to wait for."""


class Trainable(Protocol):
    """The methods that the engine calls on a model, besides ``forward(batch_dict)``.

    In training ``forward`` returns ``({"loss": loss}, tb_dict, disp_dict)``, in eval mode
    ``(pred_dicts, recall_dict)``: OpenPCDet's contract.
    """

    def prepare_data(self, processes: Processes, logger: logging.Logger) -> None:
        """Before any batch is loaded, in a resumed training too, and in every process.

        Compute what the items of the data set need besides its files.
        """

    def check_before_training(self, data: TrainingData, logger: logging.Logger) -> None:
        """Warn of anything that would spoil a new training. Called in one process only."""

    def init_before_training(self, data: TrainingData, logger: logging.Logger) -> None:
        """Set the first weights of a new training. Called in one process only.

        The engine broadcasts the weights to the other processes. It does not call this method for
        a resumed training, nor with ``--pretrained_model``.
        """

    def set_progress(self, fraction: float) -> None:
        """Before each step: the finished part of the training, from 0 to 1."""

    def update_global_step(self) -> None:
        """Count one finished training step."""

    def checkpoint_state(self) -> CheckpointState:
        """The entries of a checkpoint that belong to the model, "model_state" among them."""

    def load_checkpoint_state(self, state: CheckpointState, where: str) -> LoadReport:
        """Load what ``checkpoint_state`` returned; every tensor must fit.

        Args:
            state: the whole checkpoint.
            where: its file, for error messages.
        """


class TrainableModule(nn.Module):
    """An ``nn.Module`` that fulfils ``Trainable`` with the defaults of a plain detector."""

    def prepare_data(self, processes: Processes, logger: logging.Logger) -> None:
        """A plain detector needs the files of the data set alone."""

    def check_before_training(self, data: TrainingData, logger: logging.Logger) -> None:
        """A plain detector learns from labels alone: there is no teacher to check."""

    def init_before_training(self, data: TrainingData, logger: logging.Logger) -> None:
        """A plain detector keeps the weights it was built with."""

    def set_progress(self, fraction: float) -> None:
        """A plain detector has no weights that change with the progress of the training."""

    def update_global_step(self) -> None:
        """A plain module does not count its steps."""

    def checkpoint_state(self) -> CheckpointState:
        """``model_state`` alone."""
        return {"model_state": self.state_dict()}

    def load_checkpoint_state(self, state: CheckpointState, where: str) -> LoadReport:
        """Load ``model_state`` of any OpenPCDet checkpoint; every tensor must fit."""
        return load_model_state(self, _model_state(state, where), strict=True, where=where)


class WrappedModule(TrainableModule):
    """A module of another library. Methods of ``Trainable`` that it has are called, others default.

    Checkpoints hold the state of the inner module, so their names stay those of the other library.

    Args:
        module: follows OpenPCDet's contract of ``forward``.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, batch_dict: BatchDict) -> tuple:
        """The inner module's output."""
        return self.module(batch_dict)

    def update_global_step(self) -> None:
        """Count a step where the inner module does."""
        update = getattr(self.module, "update_global_step", None)
        if update is not None:
            update()

    def checkpoint_state(self) -> CheckpointState:
        """The inner module's own entries, or its ``model_state``."""
        own_state = getattr(self.module, "checkpoint_state", None)
        if own_state is not None:
            return own_state()
        return {"model_state": self.module.state_dict()}

    def load_checkpoint_state(self, state: CheckpointState, where: str) -> LoadReport:
        """Load by the inner module's own method, or its ``model_state``."""
        load_own = getattr(self.module, "load_checkpoint_state", None)
        if load_own is not None:
            return load_own(state, where)
        return load_model_state(self.module, _model_state(state, where), strict=True, where=where)


def as_trainable(module: nn.Module) -> TrainableModule:
    """``module`` itself when it is a ``TrainableModule``; otherwise a wrapper around it."""
    if isinstance(module, TrainableModule):
        return module
    return WrappedModule(module)


def _model_state(state: CheckpointState, where: str) -> Mapping[str, Tensor]:
    """The weights in a checkpoint."""
    weights = state.get("model_state")
    if not isinstance(weights, Mapping):
        raise CheckpointError(
            f"{where}: no 'model_state' in it; it is not a checkpoint of a detector"
        )
    return weights
