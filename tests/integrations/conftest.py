"""Makes the stand-in for OpenPCDet importable as ``pcdet``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def pcdet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The stand-in, for the length of a test."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "stand_in"))
    yield
    for name in list(sys.modules):
        if name.split(".")[0] == "pcdet":
            del sys.modules[name]
