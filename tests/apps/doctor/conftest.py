"""Simulated frames, made once for all tests of the doctor."""

from __future__ import annotations

import pytest
from doctor_toys import ToyData, simulate


@pytest.fixture(scope="session")
def frames(tmp_path_factory: pytest.TempPathFactory) -> ToyData:
    """Healthy frames; a test spoils a copy of them."""
    return simulate(tmp_path_factory.mktemp("doctor"))
