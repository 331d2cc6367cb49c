"""Old import paths: they give the same object as the new one, with one warning that names it."""

from __future__ import annotations

import sys
import types
import warnings
from collections.abc import Iterator

import pytest

from pcdet_distill.moved import forward_names


@pytest.fixture
def new_module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module ``new_place`` that can be imported and has two functions."""
    module = types.ModuleType("new_place")
    module.kept = lambda: "kept"  # type: ignore[attr-defined]
    module.renamed = lambda: "renamed"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "new_place", module)
    return module


@pytest.fixture
def no_other_warning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_every_name_of_the_new_module_is_forwarded(new_module: types.ModuleType) -> None:
    old = forward_names("old_place", "new_place")
    with pytest.warns(DeprecationWarning, match="old_place.kept is deprecated, use new_place.kept"):
        assert old("kept") is new_module.kept


def test_a_renamed_name(new_module: types.ModuleType) -> None:
    old = forward_names("old_place", "new_place", {"former": "renamed"})
    with pytest.warns(DeprecationWarning, match="old_place.former .* use new_place.renamed"):
        assert old("former") is new_module.renamed


@pytest.mark.parametrize("name", ["__path__", "missing", "renamed"])
def test_any_other_name_is_missing_without_a_warning(
    new_module: types.ModuleType, no_other_warning: None, name: str
) -> None:
    old = forward_names("old_place", "new_place", ["kept"])
    with pytest.raises(AttributeError, match=f"module 'old_place' has no attribute '{name}'"):
        old(name)


def test_a_name_that_the_new_module_lacks_is_missing(
    new_module: types.ModuleType, no_other_warning: None
) -> None:
    with pytest.raises(AttributeError, match="module 'old_place' has no attribute 'missing'"):
        forward_names("old_place", "new_place")("missing")


def test_the_warning_points_at_the_import(
    new_module: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    shim = types.ModuleType("old_place")
    shim.__getattr__ = forward_names("old_place", "new_place")  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "old_place", shim)
    with pytest.warns(DeprecationWarning) as caught:
        exec("from old_place import kept", {})
    assert caught[0].filename == "<string>"
