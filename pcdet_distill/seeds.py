"""Where a run without a given seed gets one."""

from __future__ import annotations

import os


def draw_seed() -> int:
    """A seed of 31 bits from the machine's entropy; every generator of a run accepts that many."""
    return int.from_bytes(os.urandom(4), "little") % 2**31
