"""Durations, learning rates and values as the log line shows them."""

from __future__ import annotations

import math


def duration_text(seconds: float) -> str:
    """``1:12`` (minutes and seconds) or ``2:01:12`` (with hours)."""
    whole = max(int(seconds + 0.5), 0)
    hours = whole // 3600
    minutes = whole // 60 % 60
    rest = whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def rate_text(learning_rate: float) -> str:
    """``2.1e-3``."""
    mantissa, exponent = f"{learning_rate:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def value_text(value: float) -> str:
    """Three significant digits, as ``1.42``, ``0.0312`` or ``134``."""
    if not math.isfinite(value):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}"
