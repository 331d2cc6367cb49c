"""Losses that are not finite: named, and either skipped or the end."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from toy_engine import ToyDetector, output_of, train_toy

from pcdet_distill.checkpoint import load_checkpoint
from pcdet_distill.engine.distributed import StepGroup, World
from pcdet_distill.engine.loss_watch import LossWatch, NonFiniteStep, Step
from pcdet_distill.errors import ConfigError

NAN = float("nan")
WHOLE = pytest.mark.usefixtures("toys")


def step(iteration: int, **values: float) -> Step:
    """A step of the frames 000007 and 000009."""
    return Step(iteration, values, ["000007", "000009"])


@pytest.fixture
def norm() -> nn.BatchNorm1d:
    return nn.BatchNorm1d(2)


def watch_on_cpu(model: nn.Module, skip: bool = False) -> LossWatch:
    return LossWatch(model, StepGroup(World()), torch.device("cpu"), skip=skip)


def test_a_finite_loss_goes_on(norm):
    watch = watch_on_cpu(norm)
    watch.before_step()
    watch.see(step(5, loss=1.0), torch.tensor(1.0))
    watch.check()


@pytest.mark.parametrize("loss", [NAN, float("inf"), -float("inf")])
def test_term_step_and_frames_are_named(norm, loss):
    watch = watch_on_cpu(norm)
    watch.before_step()
    with pytest.raises(NonFiniteStep) as caught:
        watch.see(step(5, rpn_loss_cls=0.5, rpn_loss_loc=loss, loss=loss), torch.tensor(loss))
    assert str(caught.value) == (
        f"rpn_loss_loc became {loss} in iteration 5, frames 000007, 000009"
    )


def test_a_total_without_bad_terms_is_named_itself(norm):
    watch = watch_on_cpu(norm)
    watch.before_step()
    with pytest.raises(NonFiniteStep, match="^loss became nan in iteration 5"):
        watch.see(step(5, cls=0.5, loss=NAN), torch.tensor(NAN))


def test_many_frames_are_cut(norm):
    watch = watch_on_cpu(norm)
    watch.before_step()
    many = Step(1, {"loss": NAN}, [f"{number:06d}" for number in range(11)])
    with pytest.raises(NonFiniteStep, match="000007 and 3 more$"):
        watch.see(many, torch.tensor(NAN))


def test_the_statistics_of_norms_are_put_back(norm):
    watch = watch_on_cpu(norm)
    before = [each.clone() for each in norm.buffers()]
    watch.before_step()
    norm(torch.full((4, 2), 1e30))
    with pytest.raises(NonFiniteStep):
        watch.see(step(1, loss=NAN), torch.tensor(NAN))
    for kept, now in zip(before[:2], norm.buffers()):
        assert torch.equal(kept, now)


def test_a_device_remembers_the_first_bad_step_until_it_is_asked(norm):
    """What CUDA does, on the CPU: nothing is read before ``check``."""
    watch = watch_on_cpu(norm)
    watch.immediate = False
    for iteration in range(1, 6):
        loss = NAN if iteration >= 3 else 1.0
        watch.before_step()
        watch.see(step(iteration, loc=loss, loss=loss), torch.tensor(loss))
    with pytest.raises(ConfigError, match="loc became nan in iteration 3, frames 000007, 000009"):
        watch.check()


def test_a_device_names_a_bad_norm_of_the_gradients(norm):
    """Loss and gradients of one step are seen one after the other."""
    watch = watch_on_cpu(norm)
    watch.immediate = False
    watch.see(step(1, loss=1.0), torch.tensor(1.0))
    watch.see(step(1, loss=1.0, grad_norm=NAN), torch.tensor(NAN))
    with pytest.raises(ConfigError, match="grad_norm became nan in iteration 1, frames 000007"):
        watch.check()


def test_steps_with_bad_gradients_are_counted_though_their_loss_is_finite(norm):
    watch = watch_on_cpu(norm, skip=True)
    for iteration in range(1, 4):
        watch.before_step()
        watch.see(step(iteration, loss=1.0), torch.tensor(1.0))
        with pytest.raises(NonFiniteStep):
            watch.see(step(iteration, loss=1.0, grad_norm=NAN), torch.tensor(NAN))
    assert watch.skipped_in_a_row == 3
    watch.step_done()
    assert watch.skipped_in_a_row == 0


def test_buffers_that_no_checkpoint_has_are_not_copied(norm):
    norm.register_buffer("anchors", torch.zeros(1000), persistent=False)
    assert len(watch_on_cpu(norm)._kept) == 3


def test_a_device_that_saw_nothing_bad_forgets(norm):
    watch = watch_on_cpu(norm)
    watch.immediate = False
    for iteration in range(1, 4):
        watch.see(step(iteration, loss=1.0), torch.tensor(1.0))
        watch.check()
    assert not watch._steps


# --- Whole trainings ------------------------------------------------------------------------------


def make_nan_at(monkeypatch: pytest.MonkeyPatch, *iterations: int) -> None:
    """Let the toy's loss be NaN in these iterations, from 1."""
    calls = {"count": 0}
    forward = ToyDetector.forward

    def forward_or_nan(self: ToyDetector, batch: dict) -> object:
        result = forward(self, batch)
        if not self.training:
            return result
        calls["count"] += 1
        if calls["count"] in iterations:
            loss, values, shown = result
            values = {**values, "loss_loc": torch.tensor(NAN)}
            return {"loss": loss["loss"] * NAN}, values, shown
        return result

    monkeypatch.setattr(ToyDetector, "forward", forward_or_nan)


def weights_after(tmp_path: Path, name: str) -> dict[str, Tensor]:
    return load_checkpoint(output_of(tmp_path) / "ckpt" / name)["model_state"]


@WHOLE
def test_a_training_stops_with_the_state_before(tmp_path, monkeypatch):
    make_nan_at(monkeypatch, 5)
    with pytest.raises(ConfigError) as caught:
        train_toy(tmp_path, "--seed", "1")
    message = str(caught.value)
    assert "loss_loc became nan in iteration 5, frames 0000" in message
    assert "the state before it is in" in message
    checkpoint = load_checkpoint(output_of(tmp_path) / "ckpt" / "latest_model.pth")
    assert checkpoint["it"] == 4


@WHOLE
def test_a_stopped_training_goes_on_as_if_nothing_had_been(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        make_nan_at(patch, 5)
        with pytest.raises(ConfigError):
            train_toy(tmp_path / "stopped", "--seed", "1")
    train_toy(tmp_path / "stopped", "--seed", "1")
    train_toy(tmp_path / "through", "--seed", "1")
    first = weights_after(tmp_path / "stopped", "checkpoint_epoch_3.pth")
    second = weights_after(tmp_path / "through", "checkpoint_epoch_3.pth")
    assert all(torch.equal(first[name], second[name]) for name in first)


@WHOLE
def test_steps_are_skipped_and_told(tmp_path, monkeypatch, capsys):
    make_nan_at(monkeypatch, 2, 5)
    train_toy(tmp_path, "--seed", "1", "--on_nan", "skip")
    output = capsys.readouterr()
    text = output.out + output.err
    assert text.count("step left out: loss_loc became nan") == 2
    state = load_checkpoint(output_of(tmp_path) / "ckpt" / "checkpoint_epoch_3.pth")
    assert state["it"] == 9
    steps = {int(each["step"]) for each in state["optimizer_state"]["state"].values()}
    assert steps == {7}


@WHOLE
def test_too_many_skipped_steps_are_the_end(tmp_path, monkeypatch):
    make_nan_at(monkeypatch, *range(1, 100))
    monkeypatch.setattr("pcdet_distill.engine.loop.MAX_SKIPPED_IN_A_ROW", 4)
    with pytest.raises(ConfigError, match="in iteration 4"):
        train_toy(tmp_path, "--on_nan", "skip")


@WHOLE
def test_a_step_that_ruined_the_weights_is_found_in_the_next(tmp_path):
    """A huge learning rate: the loss is finite, the weights after it are not."""
    with pytest.raises(ConfigError, match="became|not written"):
        train_toy(tmp_path, "--set", "OPTIMIZATION.LR", "1e38")
    for file in (output_of(tmp_path) / "ckpt").glob("*.pth"):
        load_checkpoint(file)  # finite, or an error


@WHOLE
def test_the_log_averages_no_skipped_step(tmp_path, monkeypatch):
    make_nan_at(monkeypatch, 2)
    train_toy(tmp_path, "--on_nan", "skip")
    assert "nan" not in (output_of(tmp_path) / "metrics.jsonl").read_text().lower()
