"""Imports run one way: ops <- models <- distill <- engine <- apps <- cli.

Every import statement counts, also inside functions, except those for type checkers alone.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "pcdet_distill"
# Usable by every part, and using none: errors, yaml, .pth files, processes, old names, locks.
LEAVES = {
    "errors",
    "extras",
    "commands",
    "config",
    "file_locks",
    "parallel",
    "checkpoint",
    "processes",
    "seeds",
    "structures",
    "texts",
    "types",
    "moved",
    "moved_modules",
    "whole_files",
    "__init__",
}
# What each part may import, besides itself and the leaves.
MAY_IMPORT = {
    "__main__": {"cli"},
    "cli": {"apps", "engine", "demo", "export"},
    "ops": set(),
    "evaluation": {"ops"},
    "datasets": {"ops", "evaluation"},
    "models": {"ops"},
    "distill": {"ops", "models", "datasets"},
    "measure": {"ops", "models", "datasets"},
    "visualize": {"ops", "datasets"},
    "report": {"ops", "measure", "evaluation", "visualize"},
    "inference": {"ops", "models", "datasets", "evaluation"},
    "export": {
        "ops",
        "models",
        "datasets",
        "evaluation",
        "measure",
        "inference",
        "engine",
        "report",
    },
    "integrations": {"ops", "models", "datasets", "distill"},
    "engine": {
        "ops",
        "models",
        "datasets",
        "evaluation",
        "distill",
        "measure",
        "visualize",
        "report",
        "inference",
    },
    "demo": {"ops", "models", "datasets", "engine", "visualize", "inference", "report"},
    "apps": {
        "ops",
        "models",
        "datasets",
        "evaluation",
        "distill",
        "engine",
        "measure",
        "visualize",
        "report",
        "demo",
        "inference",
        "export",
    },
}


def part_of(module: str) -> str:
    """``pcdet_distill.ops.boxes`` belongs to ``ops``; the package itself to ``__init__``."""
    names = module.split(".")
    return names[1] if len(names) > 1 else "__init__"


def module_of(file: Path, package: Path) -> str:
    """The dotted name of a file; a folder's ``__init__.py`` has the folder's name."""
    names = [PACKAGE, *file.relative_to(package).with_suffix("").parts]
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


def is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def imports(file: Path, package: Path) -> Iterator[tuple[int, str]]:
    """(line, absolute module name) of every import of this package in ``file``."""
    module = module_of(file, package)
    home = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    waiting: list[ast.AST] = [ast.parse(file.read_text())]
    while waiting:
        node = waiting.pop()
        if is_for_type_checkers(node):
            continue
        waiting.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            yield from (
                (node.lineno, alias.name)
                for alias in node.names
                if alias.name.split(".")[0] == PACKAGE
            )
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, name) for name in targets(node, home))


def targets(node: ast.ImportFrom, home: list[str]) -> list[str]:
    """The modules that an ``import from`` may mean, such as ops in ``from .. import ops``."""
    base = home[: len(home) - node.level + 1] if node.level else []
    names = [*base, *(node.module.split(".") if node.module else [])]
    if not names or names[0] != PACKAGE:
        return []
    if len(names) > 1:
        return [".".join(names)]
    parts = {*MAY_IMPORT, *LEAVES}
    return [f"{PACKAGE}.{alias.name}" if alias.name in parts else PACKAGE for alias in node.names]


def back_arrows(package: Path) -> list[str]:
    wrong = []
    for file in sorted(package.rglob("*.py")):
        part = part_of(module_of(file, package))
        allowed = {part, *LEAVES, *MAY_IMPORT.get(part, set())}
        wrong += [
            f"{file.relative_to(package.parent)}:{line}: {part} imports {module}"
            for line, module in imports(file, package)
            if part_of(module) not in allowed
        ]
    return wrong


def test_no_arrow_runs_back(repo: Path):
    assert back_arrows(repo / PACKAGE) == []


def test_every_part_has_its_place(repo: Path):
    parts = {
        path.stem
        for path in (repo / PACKAGE).iterdir()
        if path.suffix == ".py" or any(path.glob("*.py"))
    }
    assert parts <= {*MAY_IMPORT, *LEAVES}


@pytest.mark.parametrize("part", ["engine", "distill", "models", "datasets"])
def test_detectors_and_ops_know_nothing_above_them(part: str):
    assert part not in MAY_IMPORT["ops"]
    assert "distill" not in MAY_IMPORT["models"]
    assert "engine" not in MAY_IMPORT["distill"]


@pytest.mark.parametrize(
    ("place", "statement", "found"),
    [
        ("ops/boxes.py", "from ..models import taps", True),
        ("ops/boxes.py", "from pcdet_distill.models.taps import capture", True),
        ("ops/boxes.py", "def f():\n    import pcdet_distill.engine.train", True),
        ("ops/__init__.py", "from .. import models", True),
        ("models/detectors/pointpillar.py", "from ...distill.nodes import NodeFeatures", True),
        ("config/load.py", "from ..ops import boxes", True),
        (
            "ops/boxes.py",
            "from ..errors import DataError\nfrom .nms import nms\nimport torch",
            False,
        ),
        ("models/taps.py", "from pcdet_distill import ops, __version__", False),
        (
            "ops/boxes.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..models import taps",
            False,
        ),
    ],
)
def test_the_walk_itself(tmp_path: Path, place: str, statement: str, found: bool):
    file = tmp_path / PACKAGE / place
    file.parent.mkdir(parents=True)
    file.write_text(statement)
    assert bool(back_arrows(tmp_path / PACKAGE)) is found
