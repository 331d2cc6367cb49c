"""The log of a training: whether a folder has one, without reading it whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pcdet_distill.report.training_log import FILE, has_training_log, read_training_log

TRAIN = json.dumps({"kind": "train", "it": 1, "epoch": 1, "loss": 2.0})
COST = json.dumps({"kind": "cost", "it": 1, "wall_s": 3.0})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, False),
        ("", False),
        (COST, False),
        ("cut off {", False),
        (TRAIN, True),
        (f"cut off {{\n{COST}\n{TRAIN}\n", True),
    ],
)
def test_a_log_is_found_where_it_can_be_read(tmp_path: Path, text: str | None, found: bool) -> None:
    if text is not None:
        (tmp_path / FILE).write_text(text)
    assert has_training_log(tmp_path) is found
    assert (read_training_log(tmp_path) is not None) is found


def test_what_terms_count_is_no_loss(tmp_path: Path) -> None:
    """A term that changes the batch, SoftTargets called SOFT here, has no loss of its own."""
    line = {
        "kind": "train",
        "it": 1,
        "loss": 3.0,
        "distill_soft_unlabelled": 2.0,
        "distill_more_added": 5.0,
        "distill_logit_box": 1.5,
        "distill_logit_box_positions": 33.0,
    }
    (tmp_path / FILE).write_text(json.dumps(line))
    log = read_training_log(tmp_path)
    assert log is not None
    assert list(log.losses) == ["loss", "distill_logit_box"]
    assert list(log.health) == ["soft_unlabelled", "more_added", "logit_box_positions"]
