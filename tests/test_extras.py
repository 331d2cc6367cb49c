"""Optional packages: one sentence, and a command that installs what it names."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from pcdet_distill.errors import ConfigError, DataError
from pcdet_distill.extras import EXTRA_OF, how_to_install, import_extra

# Names on the index that differ from the name to import.
NAME_ON_INDEX = {"nuscenes": "nuscenes-devkit", "rerun": "rerun-sdk"}


def test_an_installed_package_is_imported() -> None:
    assert import_extra("matplotlib", needed_by="a picture").__name__ == "matplotlib"


@pytest.mark.parametrize("raises", [ConfigError, DataError])
def test_a_missing_package_is_one_sentence(monkeypatch, raises) -> None:
    monkeypatch.setitem(sys.modules, "laspy", None)
    with pytest.raises(raises, match=r"^a\.las: reading it needs the package laspy \(") as caught:
        import_extra("laspy", needed_by="a.las: reading it", raises=raises)
    assert str(caught.value).endswith('): pip install "pcdet_distill[readers]"')


def test_the_python_that_an_extra_asks_for_is_told() -> None:
    assert how_to_install("tri3d").endswith("(Python 3.11 or newer)")


@pytest.mark.parametrize("package", EXTRA_OF)
def test_the_extra_installs_the_package(repo: Path, package: str) -> None:
    text = (repo / "pyproject.toml").read_text()
    listed = re.search(rf"^{EXTRA_OF[package]} = \[(.*)\]$", text, flags=re.MULTILINE)
    assert listed is not None
    names = re.findall(r'"([\w-]+)', listed[1])
    assert NAME_ON_INDEX.get(package, package) in names


def test_every_package_that_is_asked_for_has_an_extra(repo: Path) -> None:
    asked = set()
    for file in (repo / "pcdet_distill").rglob("*.py"):
        asked |= set(
            re.findall(r'(?:import_extra|needed_for)\(\s*(?:path, )?"(\w+)', file.read_text())
        )
    assert asked and asked <= set(EXTRA_OF)
