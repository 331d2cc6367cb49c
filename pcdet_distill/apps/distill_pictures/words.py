"""Small pieces of text and pictures for the page."""

from __future__ import annotations

import base64
import math
from html import escape

from ...report.page import Html


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
    return Html(f"<img alt='{escape(about)}' src='data:image/webp;base64,{packed}'>")
