"""The time of a training is in its metrics, interrupted or not; and --seed makes it repeatable."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import toy_engine
from torch import Tensor
from toy_engine import train_toy

from pcdet_distill.checkpoint import load_checkpoint
from pcdet_distill.engine.logging import Cost, CostMeter, cost, read_cost
from pcdet_distill.errors import ConfigError

pytestmark = pytest.mark.usefixtures("toys")


def cost_after(metrics: Path, it: int) -> Cost:
    """The recorded cost of the first ``it`` iterations."""
    found = read_cost(metrics, it)
    assert found is not None
    return found


def weights(output: Path) -> dict[str, Tensor]:
    """Weights after the first epoch."""
    return load_checkpoint(output / "ckpt" / "checkpoint_epoch_1.pth")["model_state"]


def test_a_training_records_its_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two epochs of three steps, each at least 0.02 s long."""
    monkeypatch.setenv("TOY_STEP_SECONDS", "0.02")
    start = time.perf_counter()
    metrics = train_toy(tmp_path, "--epochs", "2") / "metrics.jsonl"
    elapsed = time.perf_counter() - start
    first = cost_after(metrics, 3)
    second = cost_after(metrics, 6)
    shortest_epoch = 3 * 0.02
    assert first.wall_s >= shortest_epoch
    assert first.wall_s + shortest_epoch <= second.wall_s <= elapsed
    assert 0 < first.cpu_s <= second.cpu_s
    assert second.first_it == 0
    # Costs are recorded at the end of an epoch.
    assert read_cost(metrics, 5) is None


def test_without_a_metrics_file_there_is_no_cost(tmp_path: Path) -> None:
    assert read_cost(tmp_path / "none", 0) is None


def test_a_resumed_training_adds_to_its_cost(tmp_path: Path) -> None:
    metrics = train_toy(tmp_path, "--epochs", "1") / "metrics.jsonl"
    lines = metrics.read_text().splitlines()
    cost_line = json.loads(lines[-1])
    cost_line.update(wall_s=1000.0, cpu_s=500.0)
    # The last line is cut off, as by a kill.
    cut_off = '{"kind": "cost", "it": 4, "wall'
    metrics.write_text("\n".join([*lines[:-1], json.dumps(cost_line), cut_off]))
    train_toy(tmp_path, "--epochs", "2")
    resumed = cost_after(metrics, 6)
    assert 1000 < resumed.wall_s < 1060
    assert 500 < resumed.cpu_s < 560


def test_a_training_begun_elsewhere_records_from_where_it_counts(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text('{"kind": "train", "it": 3}\n')
    assert CostMeter.resumed(metrics, 3).read().first_it == 3


def test_the_meter_adds_wall_and_processor_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = {"wall": 10.0, "cpu": 5.0}
    monkeypatch.setattr(cost.time, "perf_counter", lambda: clocks["wall"])
    monkeypatch.setattr(cost, "cpu_seconds", lambda: clocks["cpu"])
    meter = CostMeter(Cost(wall_s=1.0, cpu_s=2.0))
    clocks.update(wall=13.0, cpu=9.0)
    assert meter.read() == Cost(wall_s=1.0 + 3.0, cpu_s=2.0 + 4.0, first_it=0)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no /proc")
def test_the_time_of_another_process() -> None:
    program = "import time\nwhile time.process_time() < 0.3: pass\ninput()"
    busy = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE)
    end = time.monotonic() + 20
    while cost.process_cpu_seconds(busy.pid) < 0.2 and time.monotonic() < end:
        time.sleep(0.02)
    assert cost.process_cpu_seconds(busy.pid) >= 0.2
    busy.communicate(b"\n")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no /proc")
def test_a_process_that_does_not_exist_took_no_time() -> None:
    assert cost.process_cpu_seconds(10**9) == 0


def test_a_seed_makes_a_training_reproducible(tmp_path: Path) -> None:
    first = weights(train_toy(tmp_path / "a", "--epochs", "1", "--seed", "3"))
    again = weights(train_toy(tmp_path / "b", "--epochs", "1", "--seed", "3"))
    other = weights(train_toy(tmp_path / "c", "--epochs", "1", "--seed", "4"))
    for key, value in first.items():
        assert torch.equal(value, again[key]), key
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_the_fixed_seed_is_666(tmp_path: Path) -> None:
    fixed = weights(train_toy(tmp_path / "a", "--epochs", "1", "--fix_random_seed"))
    given = weights(train_toy(tmp_path / "b", "--epochs", "1", "--seed", "666"))
    for key, value in fixed.items():
        assert torch.equal(value, given[key]), key


def test_two_seeds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give one of them"):
        train_toy(tmp_path, "--fix_random_seed", "--seed", "1")


def test_a_training_is_not_resumed_with_another_seed(tmp_path: Path) -> None:
    train_toy(tmp_path, "--epochs", "1", "--seed", "3")
    message = "has seed 3; give that one or choose another --extra_tag"
    with pytest.raises(ConfigError, match=message):
        train_toy(tmp_path, "--epochs", "2", "--seed", "4")
    train_toy(tmp_path, "--epochs", "2", "--seed", "3")


def test_the_initialisation_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow_init(*_: object) -> None:
        time.sleep(0.6)

    monkeypatch.setattr(toy_engine.ToyDetector, "init_before_training", slow_init)
    metrics = train_toy(tmp_path, "--epochs", "1") / "metrics.jsonl"
    assert cost_after(metrics, 3).wall_s > 0.6
