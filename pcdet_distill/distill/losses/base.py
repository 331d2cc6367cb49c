"""What every distillation loss is, and how its block of a yaml file becomes keyword arguments."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from ...config import nearest
from ...errors import ConfigError
from ..deprecated import warn_renamed

if TYPE_CHECKING:
    from ..teacher import Predictor

Options = TypeVar("Options")
# Keys of a DISTILL.TERMS entry; the rest is the loss' own.
TERM_KEYS = ("NAME", "STUDENT", "TEACHER", "NODES", "SCORE_TAP", "WEIGHT")


class DistillLoss(nn.Module):
    """Compares a student's nodes with a teacher's. What it has to learn for that (adapters) are its own parameters.

    Attributes:
        sees: what it is given of each side: ``nodes``, ``predictions``, or ``labels``: nothing, it only prepares them.
        labels_frames: whether ``prepare`` makes labels, so that frames without any can be trained on.
        logs: numbers about the last forward pass that are worth a line in the log.
    """

    sees: ClassVar[str] = "nodes"
    labels_frames: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.logs: dict[str, float | Tensor] = {}

    @classmethod
    def from_config(
        cls, cfg: Mapping[str, Any], student: Any, teacher: Any, where: str
    ) -> DistillLoss:
        """Build from a term's yaml block without the keys of the term itself; ``where`` is its key path for errors.

        ``student`` and ``teacher`` are the taps (TapInfo) of a loss that sees nodes, the PredictionReaders of one that
        sees predictions, None for one that sees labels.
        """
        raise TypeError(f"{cls.__name__} does not say how it is built from a yaml block")

    def prepare(self, batch_dict: dict[str, Any], teacher: Predictor) -> None:
        """Before the student's forward pass: entries of ``batch_dict``, such as the labels, may be replaced."""

    def forward(self, student: Any, teacher: Any, batch_dict: Mapping[str, Any]) -> Tensor:
        """The loss, a scalar, between NodeFeatures or Predictions: row i of both stands at the same place."""
        raise TypeError(f"{type(self).__name__} does not say how it compares")

    def zero_loss(self, *outputs: Tensor) -> Tensor:
        """A loss of 0 whose gradient, 0 too, reaches ``outputs`` and every parameter of the loss.

        For batches without anything to compare: parallel training waits for a gradient of every parameter in every
        process.
        """
        parts = [part.reshape(-1)[:0].sum().float() for part in (*outputs, *self.parameters())]
        return torch.stack(parts).sum() if parts else torch.zeros(())

    def nothing(self, *outputs: Tensor) -> Tensor:
        """The old name of ``zero_loss``."""
        warn_renamed("DistillLoss.nothing", "DistillLoss.zero_loss")
        return self.zero_loss(*outputs)


def no_options(cfg: Mapping[str, Any], where: str) -> None:
    """Refuse every key: the loss has no option."""
    for key in cfg:
        raise ConfigError(f"{where}: unknown key '{key}'{nearest(key, TERM_KEYS)}")


def read_options(
    defaults: Options,
    cfg: Mapping[str, Any],
    where: str,
    choices: Mapping[str, Sequence[str]] | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> Options:
    """The dataclass ``defaults`` with the values of ``cfg``, whose keys are the field names in capitals.

    An unknown key, a value of another type than the default's, and a value outside ``choices[field]`` or
    ``ranges[field]`` (lowest, highest; above 0 where nothing is said) are ConfigErrors.
    """
    fields = {field.name.upper(): field.name for field in dataclasses.fields(defaults)}  # type: ignore[arg-type]
    changes = {}
    for key, value in cfg.items():
        if key not in fields:
            raise ConfigError(
                f"{where}: unknown key '{key}'{nearest(key, (*fields, *TERM_KEYS, 'PRESET'))}"
            )
        name = fields[key]
        changes[name] = _checked(
            value,
            getattr(defaults, name),
            f"{where}.{key}",
            (choices or {}).get(name),
            (ranges or {}).get(name),
        )
    return dataclasses.replace(defaults, **changes)  # type: ignore[type-var]


def _checked(
    value: Any,
    default: Any,
    where: str,
    known: Sequence[str] | None,
    limits: tuple[float, float] | None,
) -> Any:
    """``value`` in the type of ``default``, or a ConfigError."""
    if known is not None:
        if str(value) not in known:
            raise ConfigError(f"{where}: unknown value '{value}'{nearest(str(value), known)}")
        return str(value)
    is_bool, wants_bool = isinstance(value, bool), isinstance(default, bool)
    if is_bool != wants_bool or not isinstance(value, (bool, int, float)):
        raise ConfigError(
            f"{where}: expected {'true or false' if wants_bool else 'a number'}, found {value!r}"
        )
    if wants_bool:
        return value
    if limits is None and value <= 0:
        raise ConfigError(f"{where}: expected a number above 0, found {value}")
    if limits is not None and not limits[0] <= value <= limits[1]:
        up_to = "up" if limits[1] == inf else f"to {limits[1]:g}"
        raise ConfigError(f"{where}: expected a number from {limits[0]:g} {up_to}, found {value}")
    if isinstance(default, int) and int(value) != value:
        raise ConfigError(f"{where}: expected a whole number, found {value}")
    return type(default)(value)
