"""Imported first by the scripts here: one sentence where pcdet_distill is not installed."""

from __future__ import annotations

import sys
from importlib.util import find_spec

if find_spec("pcdet_distill") is None:
    print(
        f"error: '{sys.executable}' has no pcdet_distill: install it (pip install -e .), or "
        "activate its environment (source .venv/bin/activate)",
        file=sys.stderr,
    )
    sys.exit(2)
