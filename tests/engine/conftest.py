"""The toys of toy_engine.py in place of the real dataset and detector."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import toy_engine


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The toys and a single thread, until the test ends."""
    for module, name in toy_engine.REPLACED:
        # Setting the real one again makes monkeypatch restore it after ``install``.
        monkeypatch.setattr(module, name, getattr(module, name))
    toy_engine.install()
    threads = torch.get_num_threads()
    toy_engine.pin_threads(monkeypatch)
    yield
    torch.set_num_threads(threads)
