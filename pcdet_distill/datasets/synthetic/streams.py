"""Random numbers of a frame, one stream for each reason.

Each stream depends on (seed, frame, name) alone. So an option draws nothing from the stream of
another, and what one changes leaves the rest of the frame as it is.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Streams:
    """The streams of one frame.

    Attributes:
        seed: of the folder.
        frame: number of the frame.
    """

    seed: int
    frame: int

    def scene(self) -> np.random.Generator:
        """The stream of the easy scene and of its sensor."""
        return np.random.default_rng([self.seed, self.frame])

    def of(self, name: str, number: int = 0) -> np.random.Generator:
        """The stream of a reason, and of one object of it."""
        return np.random.default_rng([self.seed, self.frame, zlib.crc32(name.encode()), number])
