"""The comparison of a disturbed run with an undisturbed one sees what it should."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks.faults.small_training import EPOCHS, STEPS, difference
from pcdet_distill.checkpoint import save_checkpoint

RESULTS = Path("eval") / "eval_with_train" / f"epoch_{EPOCHS}" / "val"


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two equal output folders."""
    first = tmp_path / "first"
    for epoch in range(1, EPOCHS + 1):
        state = {"model_state": {"w": torch.arange(3.0)}, "epoch": epoch, "it": epoch}
        save_checkpoint(state, first / "ckpt" / f"checkpoint_epoch_{epoch}.pth")
    (first / RESULTS).mkdir(parents=True)
    (first / RESULTS / "result.pkl").write_bytes(b"detections")
    metrics = {"ap": 1.0, "seconds_per_sample": 0.1}
    (first / RESULTS / "metrics.json").write_text(json.dumps(metrics))
    lines = [json.dumps({"kind": "train", "it": step}) for step in range(1, STEPS + 1)]
    (first / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    second = tmp_path / "second"
    shutil.copytree(first, second)
    return first, second


def test_equal_folders_do_not_differ(pair: tuple[Path, Path]) -> None:
    metrics = {"ap": 1.0, "seconds_per_sample": 0.2}  # time may differ
    (pair[1] / RESULTS / "metrics.json").write_text(json.dumps(metrics))
    assert difference(*pair) == ""


def change_a_bit(folder: Path) -> None:
    state = {"model_state": {"w": torch.tensor([0.0, 1.0, 2.0000002])}, "epoch": 1, "it": 1}
    save_checkpoint(state, folder / "ckpt" / "checkpoint_epoch_1.pth")


def repeat_a_record(folder: Path) -> None:
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "it": 1}\n')


SPOILED: dict[str, Callable[[Path], object]] = {
    "another ckpt/checkpoint_epoch_1.pth": change_a_bit,
    "no ckpt/checkpoint_epoch_2.pth": lambda f: (f / "ckpt/checkpoint_epoch_2.pth").unlink(),
    "left behind: ckpt/.a.partial": lambda f: (f / "ckpt" / ".a.partial").touch(),
    "left behind: .lock": lambda f: (f / ".lock").touch(),
    f"another {RESULTS / 'result.pkl'}": lambda f: (f / RESULTS / "result.pkl").write_bytes(b""),
    f"no {RESULTS / 'metrics.json'}": lambda f: (f / RESULTS / "metrics.json").unlink(),
    "metrics.jsonl: half a line": lambda f: (f / "metrics.jsonl").write_text('{"kind"\n'),
    "metrics.jsonl: records of the iterations": repeat_a_record,
}


@pytest.mark.parametrize("expected", SPOILED)
def test_what_differs_is_named(pair: tuple[Path, Path], expected: str) -> None:
    SPOILED[expected](pair[1])
    assert difference(*pair).startswith(expected)
