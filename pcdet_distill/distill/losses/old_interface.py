"""Losses written for version 0.1 keep working: ``sees``, and ``read_options`` with default values.

Such a loss derives from ``DistillLoss`` itself. Its attribute ``sees`` is ``nodes`` or
``predictions``, what it compares, or ``labels`` if it only changes labels. It reads its options in
``from_config``.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, TypeVar

from ...config import TermOptions, lookup, option, option_keys
from ...config import read_options as read_option_block
from ...moved import warn_renamed
from ...types import BatchDict, ConfigDict
from ..batch_transforms.base import BatchTransform
from ..prediction_input import PredictionInput
from ..term_inputs import NodeInput, TermInput

if TYPE_CHECKING:
    from ..teacher import Predictor
    from .base import DistillLoss

Options = TypeVar("Options")

# Values of ``sees``. A loss that sees labels has no inputs.
OLD_INPUTS: dict[str, type[TermInput]] = {"nodes": NodeInput, "predictions": PredictionInput}
LABELS = "labels"


class OldSees:
    """The class attribute ``sees``, the old name of ``inputs``."""

    def __get__(self, instance: DistillLoss | None, owner: type[DistillLoss]) -> str:
        warn_renamed(f"{owner.__name__}.sees", f"{owner.__name__}.inputs")
        if owner.inputs is not None and issubclass(owner.inputs, PredictionInput):
            return "predictions"
        return "nodes"


def declared_sees(loss: type[DistillLoss]) -> str:
    """What an old loss, or the nearest of its base classes, states as ``sees``."""
    for base in loss.__mro__:
        value = vars(base).get("sees")
        if isinstance(value, str):
            return value
    return "nodes"


def reads_taps(loss: type[DistillLoss]) -> bool:
    """Whether STUDENT and TEACHER of a term with this loss are taps."""
    if loss.inputs is not None:
        return loss.inputs.reads_taps
    return declared_sees(loss) == "nodes"


def is_old_label_loss(loss: type[DistillLoss]) -> bool:
    """Whether this is an old loss that compares nothing and changes labels."""
    return loss.inputs is None and declared_sees(loss) == LABELS


def inputs_of(loss: type[DistillLoss], where: str) -> type[TermInput]:
    """The inputs of a loss; ``where`` is the key that names it."""
    if loss.inputs is not None:
        return loss.inputs
    warnings.warn(
        f"{where}: derive {loss.__name__} from NodeLoss, MapLoss or PredictionLoss instead of "
        "DistillLoss with 'sees'",
        DeprecationWarning,
        stacklevel=2,
    )
    known = {**OLD_INPUTS, LABELS: NodeInput}
    return lookup(known, declared_sees(loss), f"{where}: 'sees' of {loss.__name__}")


class OldLabelLoss(BatchTransform):
    """An old loss that changes labels, as a batch transform."""

    def __init__(self, loss: DistillLoss) -> None:
        super().__init__()
        warnings.warn(
            f"derive {type(loss).__name__} from BatchTransform instead of DistillLoss with "
            f"sees = '{LABELS}'",
            DeprecationWarning,
            stacklevel=2,
        )
        self.loss = loss
        self.labels_frames = bool(getattr(loss, "labels_frames", False))

    def prepare(self, batch_dict: BatchDict, teacher: Predictor) -> None:
        """As the loss does it."""
        self.loss.prepare(batch_dict, teacher)
        self.logs = self.loss.logs


def read_options(
    defaults: Options,
    cfg: ConfigDict,
    where: str,
    choices: Mapping[str, Sequence[str]] | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> Options:
    """The dataclass ``defaults`` with the values of ``cfg``; now ``config.read_options`` does it.

    Args:
        defaults: an instance of the dataclass.
        cfg: values by field name in capitals.
        where: key path of the block, for errors.
        choices: by field name, the words that it may be.
        ranges: by field name, the lowest and the highest number; other numbers must be above 0.
    """
    warn_renamed("losses.base.read_options(OPTIONS, ...)", "config.read_options(CLASS, ...)")
    fields = []
    for field in dataclasses.fields(defaults):  # type: ignore[arg-type]
        default = getattr(defaults, field.name)
        limits = _limits(default, (choices or {}).get(field.name), (ranges or {}).get(field.name))
        fields.append((field.name, type(default), option(default, help="", **limits)))
    block_class = dataclasses.make_dataclass("OptionBlock", fields)
    block: object = read_option_block(block_class, cfg, where, also_known=option_keys(TermOptions))
    return type(defaults)(**dataclasses.asdict(block))  # type: ignore[call-overload]


def _limits(
    default: object, choices: Sequence[str] | None, limits: tuple[float, float] | None
) -> dict:
    """Keyword arguments of ``option``."""
    if choices is not None:
        return {"choices": tuple(choices)}
    if isinstance(default, (bool, str)):
        return {}
    if limits is None:
        return {"above": 0}
    low, high = limits
    return {"at_least": low, "at_most": None if high == inf else high}
