"""Point feature encoders from several sources: the slot ``pfe``."""
from __future__ import annotations

from torch import nn

PFES: dict[str, type[nn.Module]] = {}
