"""Small pieces of text and pictures for the page."""

from __future__ import annotations

import base64
import math
from html import escape

from ...report.page import Html
from .draw import width_of

LEAST_SHARE = 0.6  # of its width that a picture has on a small screen


def percent(share: float) -> str:
    """``37 %``; small shares with a digit more."""
    return f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %"


def metres(distance: float) -> str:
    """``0.42 m``, or a dash."""
    return "–" if math.isnan(distance) else f"{distance:.2f} m"


def title_of(name: str) -> str:
    """The title of a panel."""
    return name if name == "teacher" else f"student\n{name}"


def webp(content: bytes, about: str) -> Html:
    """A picture as part of the page."""
    packed = base64.b64encode(content).decode("ascii")
    least_pixels = int(LEAST_SHARE * width_of(content))
    # On a phone a wide picture scrolls sideways; shrunk to the screen it would be unreadable.
    return Html(
        f"<div class='scroll'><img alt='{escape(about)}' style='min-width: {least_pixels}px' "
        f"src='data:image/webp;base64,{packed}'></div>"
    )
