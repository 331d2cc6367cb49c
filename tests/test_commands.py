"""Messages name commands that work in a checkout and in an installed package."""

from __future__ import annotations

import argparse
import ast
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from pcdet_distill.commands import command_text, output_folder

# The page of a published study belongs to a checkout.
ABOUT_A_CHECKOUT = ("apps/study/results/publish.py",)


def strings_of(file: Path) -> Iterator[str]:
    """The strings of a file that are no docstrings."""
    tree = ast.parse(file.read_text())
    statements = [node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)]
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and node not in statements:
            yield node.value


def test_a_word_with_spaces_stays_one_word():
    text = command_text("data", "kitti", "", "--set", "DATA_PATH", Path("/my data"))
    assert text == 'pcdet-distill data kitti --set DATA_PATH "/my data"'
    assert shlex.split(text)[-1] == "/my data"


def test_no_message_names_a_script_that_only_a_checkout_has(repo: Path):
    package = repo / "pcdet_distill"
    for file in sorted(package.rglob("*.py")):
        if file.relative_to(package).as_posix() not in ABOUT_A_CHECKOUT:
            found = [text for text in strings_of(file) if "python tools/" in text]
            assert found == [], file


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('"""python tools/train.py"""', []),
        ('print(f"python tools/train.py {1}")', ["python tools/train.py "]),
        ('class A:\n    def f(self):\n        """python tools/test.py"""', []),
    ],
)
def test_strings_of(tmp_path: Path, source: str, found: list[str]):
    file = tmp_path / "module.py"
    file.write_text(source)
    assert list(strings_of(file)) == found


def test_the_name_of_a_file_is_no_output_folder(tmp_path: Path) -> None:
    for name in ("robot", "robot.v2", str(tmp_path / "out")):
        assert output_folder(name) == name
    with pytest.raises(
        argparse.ArgumentTypeError, match=r"found the name of a file; .*'out/model'"
    ):
        output_folder("out/model.onnx")
    (tmp_path / "pages.html").mkdir()
    assert output_folder(str(tmp_path / "pages.html"))
