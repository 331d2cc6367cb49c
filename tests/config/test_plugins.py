"""Modules that a yaml file names: their code runs only from where the user allows it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from pcdet_distill.config import add_plugin_folders, import_plugin
from pcdet_distill.config.plugins import VARIABLE
from pcdet_distill.errors import ConfigError


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in a folder on the path; it leaves a file when its code runs."""
    name = f"my_losses_{tmp_path.name}"
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv(VARIABLE, "")
    yield name
    sys.modules.pop(name, None)


def test_a_module_that_is_only_on_the_path_does_not_run(module, tmp_path):
    with pytest.raises(ConfigError, match=f"TERMS.A.NAME: '{module}' is at .*--plugin .* allows"):
        import_plugin(module, "TERMS.A.NAME")
    assert not (tmp_path / "ran").exists()


def test_a_module_of_a_plugin_folder_runs(module, tmp_path):
    add_plugin_folders([str(tmp_path / "plugins")])
    assert import_plugin(module, "x").__name__ == module
    assert (tmp_path / "ran").exists()


def test_the_environment_names_folders_too(module, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, os.pathsep.join(["", str(tmp_path / "plugins")]))
    assert import_plugin(module, "x").__name__ == module
    assert (tmp_path / "ran").exists()


def test_a_module_that_the_program_has_imported(module, tmp_path):
    __import__(module)
    assert import_plugin(module, "x").__name__ == module


def test_an_installed_package():
    assert import_plugin("hypothesis.strategies", "x").__name__ == "hypothesis.strategies"


@pytest.mark.parametrize("name", ["antigravity", "this"])
def test_the_standard_library_has_no_losses(name, monkeypatch):
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ConfigError, match="neither installed nor in a folder of plugins"):
        import_plugin(name, "x")
    assert name not in sys.modules


@pytest.mark.parametrize(
    "code", ["raise SystemExit(0)", "1 / 0", "import no_such_package", "raise BaseException"]
)
def test_whatever_a_module_raises_is_one_sentence(module, tmp_path, code):
    (tmp_path / "plugins" / f"{module}.py").write_text(code)
    add_plugin_folders([str(tmp_path / "plugins")])
    with pytest.raises(ConfigError, match=f"x: '{module}' cannot be imported"):
        import_plugin(module, "x")


def test_a_module_that_does_not_exist():
    with pytest.raises(ConfigError, match="x: 'no_such_module' cannot be imported"):
        import_plugin("no_such_module", "x")


def test_a_folder_that_does_not_exist(tmp_path):
    with pytest.raises(ConfigError, match="--plugin .*/nothing: no such folder"):
        add_plugin_folders([str(tmp_path / "nothing")])
