"""docs/viewer.md: its flags are those of the command, its commands parse, its Python runs."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest

from pcdet_distill.apps.view import add_view_arguments
from pcdet_distill.report.viewer import STEPS

BASH = re.compile(r"```bash\n(.*?)```", re.DOTALL)
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def page(repo: Path) -> str:
    return (repo / "docs" / "viewer.md").read_text(encoding="utf-8")


def parser() -> argparse.ArgumentParser:
    return add_view_arguments(argparse.ArgumentParser(exit_on_error=False))


def test_the_page_names_every_flag_and_no_other(page: str) -> None:
    flags: set[str] = set()
    for action in parser()._actions:
        flags.update(action.option_strings)
    assert set(re.findall(r"--\w+", page)) == flags - {"-h", "--help"}


def test_the_commands_can_be_typed(page: str) -> None:
    lines = [line for block in BASH.findall(page) for line in block.splitlines()]
    assert len(lines) > 8
    for line in lines:
        program, subcommand, *words = shlex.split(line, comments=True)
        assert (program, subcommand) == ("pcdet-distill", "view")
        parser().parse_args(words)


def test_the_python_writes_a_page(page: str, tmp_path: Path, monkeypatch) -> None:
    (code,) = PYTHON.findall(page)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "viewer.md", "exec"), {})
    assert (tmp_path / "view.html").stat().st_size > 40_000


def test_the_stated_error_is_that_of_the_format(page: str) -> None:
    (length, error) = re.findall(r"a frame (\d+) m long it is off by ([\d.]+) mm", page)[0]
    assert float(error) == pytest.approx(1000 * float(length) / STEPS / 2, abs=0.05)
