"""The demo: point files in, boxes and pictures out, and a sentence for what cannot be read."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch

from pcdet_distill import demo
from pcdet_distill.checkpoint import save_checkpoint
from pcdet_distill.config import load_config
from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.errors import CheckpointError, ConfigError, DataError
from pcdet_distill.models import build_network

CONFIG = "cfgs/synthetic/pointpillar_student.yaml"


@pytest.fixture
def arguments(tmp_path: Path, repo: Path):
    """The demo's arguments: a fitting checkpoint and a folder of scans; keywords replace flags."""
    cfg = load_config(repo / CONFIG)
    torch.manual_seed(0)
    model = build_network(cfg.MODEL, 3, DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES))
    # Scores of about one half: the untrained model then detects many boxes.
    torch.nn.init.constant_(model.dense_head.conv_cls.bias, 0.0)
    save_checkpoint({"model_state": model.state_dict()}, tmp_path / "model.pth")
    scans = tmp_path / "scans"
    scans.mkdir()
    points = (
        np.random.RandomState(0)
        .uniform([0, -10, -2, 0], [40, 10, 1, 1], (800, 4))
        .astype(np.float32)
    )
    points.tofile(scans / "b.bin")
    points[:400].tofile(scans / "a.bin")
    np.save(scans / "c.npy", points)

    def parse(**changes: str) -> argparse.Namespace:
        flags = {
            "cfg_file": str(repo / CONFIG),
            "data_path": str(scans),
            "ckpt": str(tmp_path / "model.pth"),
            "out": str(tmp_path / "out"),
            "device": "cpu",
            **changes,
        }
        words = []
        for name, value in flags.items():
            words += [f"--{name}", value]
        return demo.add_demo_arguments(argparse.ArgumentParser()).parse_args(words)

    return parse


def test_every_file_of_a_folder_is_drawn_and_printed(arguments, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    pictures = demo.run_demo(arguments())
    assert pictures == [tmp_path / "out" / "a.png", tmp_path / "out" / "b.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    printed = capsys.readouterr().out
    assert f"{tmp_path / 'scans' / 'a.bin'}: " in printed
    assert "heading" in printed


def test_bin_and_npy_give_the_same_boxes(arguments, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    found = []
    for name in ("b.bin", "c.npy"):
        demo.run_demo(arguments(data_path=str(tmp_path / "scans" / name)))
        lines = capsys.readouterr().out.splitlines()
        found.append([line for line in lines if "heading" in line])
    assert found[0] == found[1]
    assert found[0]


def test_boxes_under_the_lowest_score_are_left_out(arguments, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    demo.run_demo(arguments(data_path=str(tmp_path / "scans" / "b.bin"), score="1.0"))
    assert "b.bin: 0 objects" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"data_path": "nowhere"}, DataError, "nowhere: no such file or folder"),
        ({"data_path": "EMPTY"}, DataError, r"holds no '\*.bin' file"),
        ({"data_path": "TORN"}, DataError, "torn.bin"),
        ({"data_path": "WIDE"}, DataError, r"expected numbers of shape \(N, 4\)"),
        ({"ckpt": "nowhere.pth"}, CheckpointError, "nowhere.pth"),
        ({"cfg_file": "DATASET"}, ConfigError, "expected the yaml of a detector"),
    ],
)
def test_what_cannot_be_used_is_named(arguments, tmp_path, repo, change, error, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn.bin").write_bytes(b"12345")
    np.save(tmp_path / "wide.npy", np.zeros((3, 5)))
    places = {
        "EMPTY": tmp_path / "empty",
        "TORN": tmp_path / "torn.bin",
        "WIDE": tmp_path / "wide.npy",
        "DATASET": repo / "cfgs" / "synthetic" / "dataset.yaml",
    }
    with pytest.raises(error, match=words):
        demo.run_demo(
            arguments(**{flag: str(places.get(value, value)) for flag, value in change.items()})
        )
