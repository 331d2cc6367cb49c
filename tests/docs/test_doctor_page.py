"""docs/doctor.md lists every check, and its example of Python runs."""

from __future__ import annotations

import re
from pathlib import Path

from pcdet_distill.apps.doctor import CHECKS


def page(repo: Path) -> str:
    return (repo / "docs" / "doctor.md").read_text(encoding="utf-8")


def test_the_table_of_checks_is_that_of_the_program(repo: Path) -> None:
    text = page(repo)
    for name, (_, about) in CHECKS.items():
        assert f"| `{name}` | {about} |" in text
    listed = re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE)
    assert listed == list(CHECKS)


def test_the_names_in_the_example_exist(repo: Path) -> None:
    [example] = re.findall(r"```python\n(.*?)```", page(repo), flags=re.DOTALL)
    imports = [line for line in example.splitlines() if line.startswith("from ")]
    exec("\n".join(imports), {})
    for name in re.findall(r'"(\w+)"', example.partition("run_checks(case")[2]):
        assert name in CHECKS


def test_the_flags_of_the_page_exist(repo: Path) -> None:
    import argparse

    from pcdet_distill.apps.doctor import add_doctor_arguments

    parser = add_doctor_arguments(argparse.ArgumentParser())
    known = {flag for action in parser._actions for flag in action.option_strings}
    commands = re.findall(r"pcdet-distill doctor (.*)", page(repo))
    used = {flag for command in commands for flag in re.findall(r"--\w+", command)}
    assert used and used <= known
