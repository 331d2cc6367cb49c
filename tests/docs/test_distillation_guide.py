"""docs/distillation.md: its tables name every option, with choices and values of the presets."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from made_nodes import choices_of

from pcdet_distill.config import DistillOptions, TeacherOptions, option_keys
from pcdet_distill.distill.losses.base import TERM_KEYS
from pcdet_distill.distill.losses.graph_options import OFFICIAL, GraphOptions


@pytest.fixture
def guide(repo: Path) -> dict[str, list[str]]:
    """The table rows of the page: first column -> the other columns."""
    rows = {}
    for line in (repo / "docs" / "distillation.md").read_text().splitlines():
        if line.startswith("| `"):
            key, *columns = [column.strip() for column in line.strip("|").split("|")]
            rows[key] = columns
    return rows


def quoted(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(GraphOptions)])
def test_every_option_with_its_values(guide: dict[str, list[str]], field: str) -> None:
    meaning, *values = guide[f"`{field.upper()}`"]
    assert quoted(meaning) >= set(choices_of(GraphOptions).get(field, ()))
    for options, value in zip((GraphOptions(), *OFFICIAL.values()), values, strict=True):
        expected = getattr(options, field)
        if (options, field) == (OFFICIAL["point"], "embed_dim"):
            expected = "student's"
        found = value.split(" ")[0].strip("`")  # of "`6000` per batch" the number
        assert found == (
            f"{expected:g}" if type(expected) in (int, float) else str(expected).lower()
        )


def test_every_key_of_the_block_and_of_a_term(guide: dict[str, list[str]]) -> None:
    named = set().union(*map(quoted, guide))
    teacher_keys = {f"TEACHER.{key}" for key in option_keys(TeacherOptions)}
    assert named >= teacher_keys
    assert named >= set(option_keys(DistillOptions)) - {"TEACHER"}
    assert named >= set(TERM_KEYS)
