"""Every file of a golden folder is read by a test: others could change unnoticed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

INPUTS = ("inputs_*.npz",)
INDEXES = ("distill/*/index.json",)
# Of nuScenes' pipeline: test_golden_nuscenes.py checks that each of its numbers is read; the infos
# are those of the made-up data set, whose tables test_golden_nuscenes_data.py and the devkit open.
NUSCENES = (
    "pipeline/nuscenes_pipeline.npz",
    "pipeline/fake_nuscenes_infos_*.json",
    "pipeline/fake_nuscenes/*/*/*.json",
)
DATA_ENDINGS = (".json", ".npz")  # a README or a checking script beside them holds no numbers


def claimed_patterns() -> set[str]:
    """The patterns in the golden markers of this folder's tests."""
    patterns = set(INPUTS + INDEXES + NUSCENES)
    for file in Path(__file__).parent.glob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if is_golden_marker(node):
                patterns |= {
                    part.value for part in ast.walk(node) if isinstance(part, ast.Constant)
                }
    return patterns - {"**/*.*"}


def is_golden_marker(node: ast.AST) -> bool:
    """Whether a node is the call ``pytest.mark.golden(...)``."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    return node.func.attr == "golden"


def companions(path: Path) -> set[Path]:
    """Files that are read together: ``x.json`` with ``x.npz``, ``x.npz`` with ``x_meta.json``."""
    stem = path.stem.removesuffix("_meta")
    endings = (".json", ".npz", "_meta.json")
    return {path, *(path.with_name(stem + ending) for ending in endings)}


@pytest.mark.golden("**/*.*")
def test_file_belongs_to_a_test(golden_file: Path, golden_dir: Path) -> None:
    if golden_file.suffix not in DATA_ENDINGS:
        pytest.skip("holds no numbers")
    claimed: set[Path] = set()
    for pattern in claimed_patterns():
        claimed.update(golden_dir.glob(pattern))
    assert companions(golden_file) & claimed, (
        f"no test in tests/parity reads {golden_file.relative_to(golden_dir)}"
    )


def test_an_unknown_file_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "ops").mkdir()
    (tmp_path / "ops" / "unheard_of.npz").touch()
    assert not any(list(tmp_path.glob(pattern)) for pattern in claimed_patterns())
