"""The toys, made once for all tests of this folder."""

from __future__ import annotations

import pytest
from picture_toys import Toys


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Toys:
    """PointPillars on three frames of the test split and three of the training split."""
    return Toys(tmp_path_factory.mktemp("pictures"))
