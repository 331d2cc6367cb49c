"""The columns of a box: its place, size and heading, and for some datasets its velocity."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import ConfigError

BOX_FIELDS = ("x", "y", "z", "dx", "dy", "dz", "heading")
VELOCITY_FIELDS = ("vx", "vy")  # metres per second along x and y
BOX_FIELDS_WITH_VELOCITY = (*BOX_FIELDS, *VELOCITY_FIELDS)
VELOCITY = slice(len(BOX_FIELDS), len(BOX_FIELDS_WITH_VELOCITY))


def check_box_fields(fields: Sequence[str], owner: str) -> None:
    """Refuse box columns that the augmentations and the detectors do not understand."""
    if tuple(fields) not in (BOX_FIELDS, BOX_FIELDS_WITH_VELOCITY):
        raise ConfigError(
            f"{owner}.box_fields: {', '.join(fields)} is not supported; expected "
            f"{', '.join(BOX_FIELDS)}, optionally followed by {', '.join(VELOCITY_FIELDS)}"
        )
