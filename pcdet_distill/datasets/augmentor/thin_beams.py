"""thin_beams as an augmentation: a training item keeps every n-th beam, n drawn anew.

LiDAR Distillation (https://arxiv.org/abs/2203.14956) trains on such clouds a detector for sensors
with fewer beams. To let a teacher see all beams, use the step ``thin_beams`` of the student's
DATA_PROCESSOR: an augmentation is made before the clouds of teacher and student part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...config import option, read_options
from ...config.cloud_options import BEAM_COLUMN
from ...errors import ConfigError
from ...types import ConfigDict
from ..item import Item
from ..processor.selection import CloudColumns, beams_of
from .world import WHERE


@dataclass(frozen=True)
class ThinBeamsOptions:
    """The keys of the augmentation thin_beams."""

    keep_every: tuple[int, ...] = option(
        (1, 2, 4), at_least=1, help="one of these numbers is drawn: keep one beam of so many"
    )


class RandomThinBeams:
    """Keep every n-th beam of an item, from a random first one; n is drawn from KEEP_EVERY."""

    motion = "none"

    def __init__(self, config: ConfigDict, columns: CloudColumns) -> None:
        where = f"{WHERE}.thin_beams"
        self.keep_every = read_options(
            ThinBeamsOptions, config, where, also_known=("NAME",)
        ).keep_every
        if not self.keep_every:
            raise ConfigError(f"{where}.KEEP_EVERY: expected at least one number")
        has_column = BEAM_COLUMN in columns.features
        self.column = columns.place(BEAM_COLUMN, where) if has_column else None

    def __call__(self, data_dict: Item, random: np.random.RandomState) -> None:
        step = int(random.choice(self.keep_every))
        first = int(random.randint(step))
        points = data_dict["points"]
        is_kept = beams_of(points, self.column) % step == first
        data_dict["points"] = np.compress(is_kept, points, axis=0)
