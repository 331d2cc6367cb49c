"""What every distillation loss is, and how its block of a yaml file becomes keyword arguments."""
from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from torch import Tensor, nn

from ...errors import ConfigError
from ...lookup import nearest
from ...models.taps import TapInfo
from ..nodes import NodeFeatures

Options = TypeVar("Options")
TERM_KEYS = ("NAME", "STUDENT", "TEACHER", "NODES", "WEIGHT")  # of a DISTILL.TERMS entry; the rest is the loss' own


class DistillLoss(nn.Module):
    """Compares a student's nodes with a teacher's. What it has to learn for that (adapters) are its own parameters.

    Attributes:
        logs: numbers about the last forward pass that are worth a line in the log.
    """

    def __init__(self) -> None:
        super().__init__()
        self.logs: dict[str, float | Tensor] = {}

    @classmethod
    def from_config(cls, cfg: Mapping[str, Any], student: TapInfo, teacher: TapInfo, where: str) -> DistillLoss:
        """Build from a term's yaml block without the keys of the term itself; ``where`` is its key path for errors."""
        raise TypeError(f"{cls.__name__} does not say how it is built from a yaml block")

    def forward(self, student: NodeFeatures, teacher: NodeFeatures, batch_dict: Mapping[str, Any]) -> Tensor:
        """The loss, a scalar. Row i of ``student`` (N, C_s) and of ``teacher`` (N, C_t) stand at the same place."""
        raise TypeError(f"{type(self).__name__} does not say how it compares")


def read_options(defaults: Options, cfg: Mapping[str, Any], where: str,
                 choices: Mapping[str, Sequence[str]]) -> Options:
    """The dataclass ``defaults`` with the values of ``cfg``, whose keys are the field names in capitals.

    An unknown key, a value of another type than the default's, and a value outside ``choices[field]`` are ConfigErrors.
    """
    fields = {field.name.upper(): field.name for field in dataclasses.fields(defaults)}  # type: ignore[arg-type]
    changes = {}
    for key, value in cfg.items():
        if key not in fields:
            raise ConfigError(f"{where}: unknown key '{key}'{nearest(key, (*fields, *TERM_KEYS, 'PRESET'))}")
        name = fields[key]
        changes[name] = _checked(value, getattr(defaults, name), f"{where}.{key}", choices.get(name))
    return dataclasses.replace(defaults, **changes)  # type: ignore[type-var]


def _checked(value: Any, default: Any, where: str, known: Sequence[str] | None) -> Any:
    """``value`` in the type of ``default``, or a ConfigError."""
    if known is not None:
        if str(value) not in known:
            raise ConfigError(f"{where}: unknown value '{value}'{nearest(str(value), known)}")
        return str(value)
    is_bool, wants_bool = isinstance(value, bool), isinstance(default, bool)
    if is_bool != wants_bool or not isinstance(value, (bool, int, float)):
        raise ConfigError(f"{where}: expected {'true or false' if wants_bool else 'a number'}, found {value!r}")
    if wants_bool:
        return value
    if value <= 0:
        raise ConfigError(f"{where}: expected a number above 0, found {value}")
    if isinstance(default, int) and int(value) != value:
        raise ConfigError(f"{where}: expected a whole number, found {value}")
    return type(default)(value)
