"""DISTILL.INIT_STUDENT: how the student is initialised, as one word or as a block of keys."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from ...config import nearest, option, read_options
from ...errors import ConfigError

WHERE = "DISTILL.INIT_STUDENT"
MODES = ("NONE", "RECONSTRUCT", "SLICE")


@dataclasses.dataclass(frozen=True)
class InitOptions:
    """How a student is initialised from its teacher."""

    mode: str = option(
        "NONE",
        choices=MODES,
        help="`NONE`: random weights. `SLICE`: copy the weights of the selected channels. "
        "`RECONSTRUCT`: then fit them layer by layer to the teacher's outputs",
    )
    frames: int = option(
        24, at_least=1, help="augmented training frames on which the channels are compared"
    )
    select: str = option(
        "magnitude",
        choices=("magnitude", "qr", "random"),
        help="which channels are kept. `magnitude`: those with the highest scores. `qr`: one by "
        "one, each time the channel that the kept ones explain least. `random`: random ones",
    )
    samples: int = option(
        6000, at_least=1, help="places at which a layer is compared and fitted, over all frames"
    )
    seed: int = option(0, at_least=0, help="seed of the places and of `random`")

    @classmethod
    def from_config(cls, value: object) -> InitOptions:
        """From the value of DISTILL.INIT_STUDENT: a mode, or a block."""
        if isinstance(value, Mapping):
            return read_options(cls(), value, WHERE)
        mode = str(value or "NONE")
        if mode not in MODES:
            raise ConfigError(f"{WHERE}: unknown value '{mode}'{nearest(mode, MODES)}")
        return cls(mode=mode)
