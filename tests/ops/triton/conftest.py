"""The tests of the Triton kernels: compiled with --device cuda, else through the interpreter."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    on_cpu = config.getoption("--device") == "cpu"
    if importlib.util.find_spec("triton") is None:
        reason = "Triton is not installed (pip install -e .[triton])"
    elif on_cpu and os.environ.get("TRITON_INTERPRET") != "1":
        reason = "without a GPU the kernels need TRITON_INTERPRET=1"
    else:
        return
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))
