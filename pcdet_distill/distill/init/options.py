"""DISTILL.INIT_STUDENT: how the student is initialised, as one word or as a block of keys."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ...config import nearest
from ...errors import ConfigError

WHERE = "DISTILL.INIT_STUDENT"
MODES = ("NONE", "RECONSTRUCT", "SLICE")
SELECTIONS = ("magnitude", "qr", "random")


@dataclasses.dataclass(frozen=True)
class InitOptions:
    """How a student is initialised from its teacher.

    Attributes:
        mode: NONE; SLICE copies the weights of the chosen channels; RECONSTRUCT fits them anew,
            layer by layer.
        frames: augmented training frames that are looked at.
        select: which channels are kept. ``magnitude``: those that vary most and weigh most in the
            layers behind. ``qr``: one by one, each time the one that those before it explain least.
            ``random``: any.
        samples: places that each layer is judged by, over all frames.
        seed: of the places and of ``random``.
    """

    mode: str = "NONE"
    frames: int = 24
    select: str = "magnitude"
    samples: int = 6000
    seed: int = 0

    @classmethod
    def from_config(cls, value: Any) -> InitOptions:
        """From the value of DISTILL.INIT_STUDENT."""
        block = value if isinstance(value, Mapping) else {"MODE": value or "NONE"}
        known = [field.name.upper() for field in dataclasses.fields(cls)]
        for key in block:
            if key not in known:
                raise ConfigError(f"{WHERE}: unknown key '{key}'{nearest(key, known)}")
        mode, where = (
            block.get("MODE", "NONE"),
            f"{WHERE}.MODE" if isinstance(value, Mapping) else WHERE,
        )
        options = {
            "mode": _word(mode, MODES, where),
            "select": _word(block.get("SELECT", cls.select), SELECTIONS, f"{WHERE}.SELECT"),
        }
        for key, least in (("FRAMES", 1), ("SAMPLES", 1), ("SEED", 0)):
            options[key.lower()] = _whole(
                block.get(key, getattr(cls, key.lower())), least, f"{WHERE}.{key}"
            )
        return cls(**options)


def _word(value: Any, known: tuple[str, ...], where: str) -> str:
    if value not in known:
        raise ConfigError(f"{where}: unknown value '{value}'{nearest(str(value), known)}")
    return str(value)


def _whole(value: Any, least: int, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{where}: expected a whole number from {least} up, found {value!r}")
    return value
