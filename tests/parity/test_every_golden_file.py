"""Every file of a golden folder belongs to a test: one that nobody looks at would let its numbers drift unnoticed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

INPUTS = ("inputs_*.npz",)
INDEXES = ("distill/*/index.json",)
DATA_ENDINGS = (
    ".json",
    ".npz",
)  # what holds numbers; a README or a checking script beside them is for people


def claimed_patterns() -> set[str]:
    """The patterns in the golden markers of this folder's tests."""
    patterns = set(INPUTS + INDEXES)
    for file in Path(__file__).parent.glob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "golden"
            ):
                patterns |= {
                    word.value for word in ast.walk(node) if isinstance(word, ast.Constant)
                }
    return patterns - {"**/*.*"}


def companions(path: Path) -> set[Path]:
    """Files that are read together: ``x.json`` with ``x.npz``, ``x.npz`` with ``x_meta.json``."""
    stem = path.stem.removesuffix("_meta")
    return {path, *(path.with_name(stem + end) for end in (".json", ".npz", "_meta.json"))}


@pytest.mark.golden("**/*.*")
def test_file_belongs_to_a_test(golden_file: Path, golden_dir: Path) -> None:
    if golden_file.suffix not in DATA_ENDINGS:
        pytest.skip("holds no numbers")
    claimed = {file for pattern in claimed_patterns() for file in golden_dir.glob(pattern)}
    assert companions(golden_file) & claimed, (
        f"no test in tests/parity reads {golden_file.relative_to(golden_dir)}"
    )


def test_an_unknown_file_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "ops").mkdir()
    (tmp_path / "ops" / "unheard_of.npz").touch()
    assert not any(list(tmp_path.glob(pattern)) for pattern in claimed_patterns())
