"""The time a training took is in its metrics, whole or interrupted; and --seed is a seed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import toy_engine

from pcdet_distill.checkpoint import load_checkpoint
from pcdet_distill.engine.logging import cost
from pcdet_distill.engine.logging.cost import Cost, CostMeter, read_cost
from pcdet_distill.errors import ConfigError

pytestmark = pytest.mark.usefixtures("toys")


def train(folder: Path, *arguments: str) -> Path:
    toy_engine.run(
        "train", ["--cfg_file", str(toy_engine.write_config(folder)), "--workers", "0", *arguments]
    )
    return folder / "output" / "toys" / "toy" / "default"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / "ckpt" / "checkpoint_epoch_1.pth")["model_state"]


def test_a_training_records_what_it_took(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_STEP_SECONDS", "0.02")
    start = time.perf_counter()
    metrics = train(tmp_path, "--epochs", "2") / "metrics.jsonl"
    elapsed = time.perf_counter() - start
    epochs = [read_cost(metrics, it) for it in (3, 6)]
    assert epochs[0].wall_s >= 0.06 and epochs[0].wall_s + 0.06 <= epochs[1].wall_s <= elapsed
    assert 0 < epochs[0].cpu_s <= epochs[1].cpu_s and epochs[1].first_it == 0
    assert read_cost(metrics, 5) is None and read_cost(tmp_path / "none", 0) is None


def test_a_resumed_training_adds_to_what_it_had_taken(tmp_path):
    folder = train(tmp_path, "--epochs", "1")
    metrics = folder / "metrics.jsonl"
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    lines[-1].update(wall_s=1000.0, cpu_s=500.0)
    metrics.write_text(
        "".join(json.dumps(line) + "\n" for line in lines) + '{"kind": "cost", "it": 4, "wall'
    )
    train(tmp_path, "--epochs", "2")
    assert 1000 < read_cost(metrics, 6).wall_s < 1060 and 500 < read_cost(metrics, 6).cpu_s < 560


def test_a_training_begun_elsewhere_says_from_where_it_counts(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"kind": "train", "it": 3}\n')
    assert CostMeter.resumed(tmp_path / "metrics.jsonl", 3).read().first_it == 3


def test_the_meter_adds_wall_and_processor_time(monkeypatch):
    clocks = {"wall": 10.0, "cpu": 5.0}
    monkeypatch.setattr(cost.time, "perf_counter", lambda: clocks["wall"])
    monkeypatch.setattr(cost, "cpu_seconds", lambda: clocks["cpu"])
    meter = CostMeter(Cost(1.0, 2.0))
    clocks.update(wall=13.0, cpu=9.0)
    assert meter.read() == Cost(4.0, 6.0, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")
def test_the_time_of_another_process():
    busy = subprocess.Popen(
        [sys.executable, "-c", "import time\nwhile time.process_time() < 0.3: pass\ninput()"],
        stdin=subprocess.PIPE,
    )
    end = time.monotonic() + 20
    while cost.process_cpu_seconds(busy.pid) < 0.2 and time.monotonic() < end:
        time.sleep(0.02)
    assert cost.process_cpu_seconds(busy.pid) >= 0.2
    busy.communicate(b"\n")
    assert cost.process_cpu_seconds(10**9) == 0


def test_a_seed_makes_a_training_reproducible(tmp_path):
    first, again, other = (
        weights(train(tmp_path / name, "--epochs", "1", "--seed", seed))
        for name, seed in (("a", "3"), ("b", "3"), ("c", "4"))
    )
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_the_fixed_seed_is_a_seed(tmp_path):
    fixed = weights(train(tmp_path / "a", "--epochs", "1", "--fix_random_seed"))
    given = weights(train(tmp_path / "b", "--epochs", "1", "--seed", "666"))
    assert all(torch.equal(fixed[key], given[key]) for key in fixed)
    with pytest.raises(ConfigError, match="give one of them"):
        train(tmp_path / "a", "--fix_random_seed", "--seed", "1")


def test_another_seed_does_not_go_on_with_a_training(tmp_path):
    train(tmp_path, "--epochs", "1", "--seed", "3")
    with pytest.raises(
        ConfigError, match="has seed 3; give that one or choose another --extra_tag"
    ):
        train(tmp_path, "--epochs", "2", "--seed", "4")
    train(tmp_path, "--epochs", "2", "--seed", "3")


def test_the_start_of_a_student_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(toy_engine.ToyDetector, "init_before_training", lambda *_: time.sleep(0.6))
    folder = train(tmp_path, "--epochs", "1")
    assert read_cost(folder / "metrics.jsonl", 3).wall_s > 0.6
