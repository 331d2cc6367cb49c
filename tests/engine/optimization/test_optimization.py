"""Learning rates and decay against numbers computed by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pcdet_distill.config import schema
from pcdet_distill.engine.optimization import (
    Schedule,
    amp_dtype,
    build_optimizer,
    build_schedule,
    load_optimizer_state,
    loss_scale,
    parameter_groups,
    set_rate,
    values,
)
from pcdet_distill.errors import CheckpointError, ConfigError

CONFIG = {
    "OPTIMIZER": "adam_onecycle",
    "LR": 0.003,
    "WEIGHT_DECAY": 0.01,
    "MOMENTUM": 0.9,
    "MOMS": [0.95, 0.85],
    "PCT_START": 0.4,
    "DIV_FACTOR": 10,
    "DECAY_STEP_LIST": [2, 4],
    "LR_DECAY": 0.1,
    "LR_CLIP": 1e-4,
    "LR_WARMUP": False,
    "WARMUP_EPOCH": 1,
}


TOP_RATE = 0.003
FIRST_RATE = TOP_RATE / 10
# OpenPCDet's: 1e-4 of the first rate.
LAST_RATE = 3e-8


def config(**changes: object) -> dict[str, object]:
    """OPTIMIZATION with some settings changed."""
    return {**CONFIG, **changes}


# --- Schedules: learning rate and momentum of an iteration


def learning_rates(schedule: Schedule, iterations: Sequence[int]) -> list[float]:
    """Learning rates of these iterations."""
    rates = []
    for iteration in iterations:
        learning_rate, _ = schedule(iteration)
        rates.append(learning_rate)
    return rates


def test_one_cycle_at_start_middle_peak_and_end() -> None:
    """100 iterations; the peak is at iteration 40. Half of a cosine is half of the rise."""
    schedule = build_schedule(CONFIG, iterations_per_epoch=10, epochs=10)
    assert schedule(0) == pytest.approx((FIRST_RATE, 0.95))
    assert schedule(20) == pytest.approx(((FIRST_RATE + TOP_RATE) / 2, 0.90))
    assert schedule(40) == pytest.approx((TOP_RATE, 0.85))
    assert schedule(70) == pytest.approx(((TOP_RATE + LAST_RATE) / 2, 0.90))
    assert schedule(100) == pytest.approx((LAST_RATE, 0.95))


def test_one_cycle_at_a_quarter_of_the_rise() -> None:
    schedule = build_schedule(CONFIG, iterations_per_epoch=10, epochs=10)
    learning_rate, _ = schedule(10)
    # A quarter of the half wave: (1 + cos 45°) / 2 of the rise is left.
    rise_left = (1 + math.sqrt(0.5)) / 2
    assert learning_rate == pytest.approx(TOP_RATE - (TOP_RATE - FIRST_RATE) * rise_left)


def test_step_decay_and_clip() -> None:
    schedule = build_schedule(config(OPTIMIZER="adam"), iterations_per_epoch=10, epochs=6)
    rates = learning_rates(schedule, [0, 19, 20, 39, 40])
    # A tenth from epoch 2 and from epoch 4 on, but not below LR_CLIP.
    assert rates == pytest.approx([3e-3, 3e-3, 3e-4, 3e-4, 1e-4])


def test_step_decay_leaves_the_momentum_alone() -> None:
    schedule = build_schedule(config(OPTIMIZER="adam"), iterations_per_epoch=10, epochs=6)
    _, momentum = schedule(0)
    assert momentum is None


def test_warmup_rises_along_a_cosine() -> None:
    """Two epochs of warm-up; at iteration 20, epoch 2 of DECAY_STEP_LIST has come."""
    settings = config(OPTIMIZER="sgd", LR_WARMUP=True, WARMUP_EPOCH=2)
    schedule = build_schedule(settings, iterations_per_epoch=10, epochs=6)
    rates = learning_rates(schedule, [0, 10, 20])
    assert rates == pytest.approx([3e-4, (3e-4 + 3e-3) / 2, 3e-4])


def test_the_keys_that_are_read_are_known_to_the_yaml() -> None:
    """Otherwise ``load_config`` would refuse keys that the schedules read."""
    read = {
        *CONFIG,
        "WARMUP_ITER",
        *values.LEAST,
        *values.PAIRS,
        "GRAD_NORM_CLIP",
        "USE_AMP",
        "AMP_DTYPE",
    }
    assert read <= set(schema.OPTIMIZATION.keys)


def test_cosine_annealing_goes_by_epochs() -> None:
    settings = config(OPTIMIZER="adam_cosineanneal", WARMUP_ITER=4)
    schedule = build_schedule(settings, iterations_per_epoch=10, epochs=4)
    # Four iterations of warm-up, then the top rate until the end of the epoch.
    rates = learning_rates(schedule, [0, 2, 4, 9])
    assert rates == pytest.approx([1e-3, 2e-3, 3e-3, 3e-3])
    # Half of the cosine, all through the third of four epochs.
    first_of_epoch, last_of_epoch = learning_rates(schedule, [20, 29])
    assert first_of_epoch == pytest.approx((3e-3 + 3e-6) / 2)
    assert last_of_epoch == first_of_epoch


def test_momentum_of_cosine_annealing_has_its_own_cycle() -> None:
    settings = config(OPTIMIZER="adam_cosineanneal", WARMUP_ITER=4)
    schedule = build_schedule(settings, iterations_per_epoch=10, epochs=4)
    # Its lowest value is at PCT_START = 0.4 of 40 iterations.
    _, momentum = schedule(16)
    assert momentum == pytest.approx(0.85)


# --- Optimizers


def set_zero_gradients(model: nn.Module) -> None:
    """Adam itself then moves nothing."""
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)


def betas_of(optimizer: torch.optim.Optimizer) -> set[tuple[float, float]]:
    """The betas of all groups."""
    return {group["betas"] for group in optimizer.param_groups}


def one_weight(value: float) -> nn.Linear:
    """A model of a single number."""
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(value)
    return model


def test_decay_is_decoupled_and_reaches_batch_norm_and_bias() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    optimizer = build_optimizer(model, config(WEIGHT_DECAY=0.5))
    set_rate(optimizer, (0.1, 0.85))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    set_zero_gradients(model)
    optimizer.step()
    # The rate times the decay.
    kept = 1 - 0.1 * 0.5
    for parameter, value in zip(model.parameters(), before):
        torch.testing.assert_close(parameter.detach(), kept * value)


def test_one_adam_step_by_hand() -> None:
    model = one_weight(2.0)
    optimizer = build_optimizer(model, config(WEIGHT_DECAY=0.5))
    set_rate(optimizer, (0.1, 0.85))
    model.weight.grad = torch.tensor([[4.0]])
    optimizer.step()
    # In the first step m / sqrt(v) is the sign of the gradient.
    decayed = 2.0 * (1 - 0.1 * 0.5)
    assert model.weight.item() == pytest.approx(decayed - 0.1, abs=1e-6)
    assert optimizer.param_groups[0]["betas"] == (0.85, 0.99)


@pytest.mark.parametrize("name", ["adam_onecycle", "adam_cosineanneal"])
def test_the_second_of_betas_is_used_and_the_first_follows_the_momentum(name: str) -> None:
    optimizer = build_optimizer(nn.Linear(1, 1), config(OPTIMIZER=name, BETAS=[0.8, 0.999]))
    assert betas_of(optimizer) == {(0.8, 0.999)}
    set_rate(optimizer, (0.1, 0.85))
    assert betas_of(optimizer) == {(0.85, 0.999)}


def test_the_loss_scale_is_that_of_openpcdet_unless_given() -> None:
    assert loss_scale(CONFIG) == 65536.0
    assert loss_scale(config(LOSS_SCALE_FP16=32)) == 32.0


def test_mixed_precision_is_float16_unless_the_yaml_names_bfloat16() -> None:
    assert amp_dtype(CONFIG) == torch.float16
    assert amp_dtype(config(AMP_DTYPE="bfloat16")) == torch.bfloat16
    with pytest.raises(ConfigError, match="OPTIMIZATION.AMP_DTYPE.*did you mean 'bfloat16'"):
        amp_dtype(config(AMP_DTYPE="bfloat"))


def test_plain_adam_has_its_decay_in_the_gradient() -> None:
    model = one_weight(2.0)
    optimizer = build_optimizer(model, config(OPTIMIZER="adam", WEIGHT_DECAY=0.5))
    set_rate(optimizer, (0.1, None))
    set_zero_gradients(model)
    optimizer.step()
    # The decay makes a gradient of 1.0, and the first step of Adam has the length of the rate.
    assert model.weight.item() == pytest.approx(2.0 - 0.1, abs=1e-6)


def test_sgd_with_momentum_by_hand() -> None:
    model = one_weight(1.0)
    optimizer = build_optimizer(model, config(OPTIMIZER="sgd", WEIGHT_DECAY=0.0))
    set_rate(optimizer, (0.1, None))
    for _ in range(2):
        model.weight.grad = torch.ones(1, 1)
        optimizer.step()
    # The second step is 1 + 0.9 times the gradient.
    assert model.weight.item() == pytest.approx(1.0 - 0.1 - 0.1 * 1.9)


def test_groups_are_others_then_batch_norm() -> None:
    first = nn.Linear(2, 3)
    norm = nn.BatchNorm1d(3)
    last = nn.Linear(3, 1)
    others, norms = parameter_groups(nn.Sequential(first, norm, last))
    expected_others = [*first.parameters(), *last.parameters()]
    assert [id(parameter) for parameter in others] == [id(value) for value in expected_others]
    assert [id(parameter) for parameter in norms] == [id(norm.weight), id(norm.bias)]


# --- State of an optimizer


def test_loading_keeps_the_options_of_the_config() -> None:
    """OpenPCDet stores a weight_decay of 0 in its groups, which would switch our decay off."""
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    optimizer = build_optimizer(model, CONFIG)
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        group["weight_decay"] = 0.0
    load_optimizer_state(optimizer, state, "file.pth")
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.01]


def test_optimizer_state_of_another_model_is_refused() -> None:
    state = build_optimizer(nn.Linear(2, 3), CONFIG).state_dict()
    larger = build_optimizer(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)), CONFIG)
    with pytest.raises(CheckpointError, match=r"file\.pth: .*\[2, 0\], expected \[4, 0\]"):
        load_optimizer_state(larger, state, "file.pth")


@pytest.mark.parametrize("state", ["junk", {}])
def test_what_is_no_optimizer_state_is_refused(state: object) -> None:
    optimizer = build_optimizer(nn.Linear(2, 3), CONFIG)
    message = r"file\.pth: the optimizer_state is no state of an optimizer"
    with pytest.raises(CheckpointError, match=message):
        load_optimizer_state(optimizer, state, "file.pth")


# --- Settings


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.update(param_groups=3), "parameters in groups of None, expected"),
        (lambda state: state.update(param_groups=[{"params": ["a"]}]), "in groups of None"),
        (lambda state: state.update(state=[1]), "has no moments"),
        (lambda state: state["state"][0].pop("exp_avg_sq"), "has no tensor exp_avg_sq"),
        (lambda state: state["state"][0].update(exp_avg=1.0), "has no tensor exp_avg,"),
        (lambda state: state["state"][0].pop("step"), "has no step"),
        (lambda state: state["state"][0].update(step=-1), "has no step"),
        (lambda state: state["state"][0].update(extra="x"), "neither a tensor nor a number"),
        (lambda state: state["state"].update({99: {}}), "entry 99 that is of no parameter"),
        (lambda state: state["state"].update({0: 5}), "entry 0 that is of no parameter"),
        (
            lambda state: state["state"][0].update(exp_avg=torch.zeros(7)),
            r"exp_avg of parameter 0 .* has shape \(7,\), expected",
        ),
    ],
)
def test_malformed_moments_are_refused(change: Callable[[dict], None], words: str) -> None:
    model = nn.Linear(3, 2)
    optimizer = build_optimizer(model, CONFIG)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    change(state)
    with pytest.raises(CheckpointError, match=f"file.pth: .*{words}"):
        load_optimizer_state(optimizer, state, "file.pth")


def test_an_unknown_optimizer_is_named() -> None:
    with pytest.raises(ConfigError, match="OPTIMIZATION.OPTIMIZER.*did you mean 'adam_onecycle'"):
        build_optimizer(nn.Linear(1, 1), config(OPTIMIZER="adam_oncycle"))


def test_a_missing_setting_is_named() -> None:
    without = config()
    del without["MOMS"]
    with pytest.raises(ConfigError, match="OPTIMIZATION.MOMS: missing"):
        build_schedule(without, iterations_per_epoch=10, epochs=10)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("LR", -1.0, "-1.0 is not a number of 0 or more"),
        ("LR", "fast", "'fast' is not a number"),
        ("LR", float("nan"), "nan is not a number"),
        ("WEIGHT_DECAY", -0.1, "not a number of 0 or more"),
        ("DIV_FACTOR", 0, "0 is not a number of 1 or more"),
        ("MOMS", 0.9, "as in \\[0.95, 0.85\\]"),
        ("MOMS", [0.95, 1.0], "highest and lowest momentum"),
        ("BETAS", [0.9], "as in \\[0.9, 0.99\\]"),
        ("LOSS_SCALE_FP16", 0, "0 is not a number of 1 or more"),
    ],
)
def test_impossible_numbers_are_named(key: str, value: object, words: str) -> None:
    wrong = config(**{key: value})
    with pytest.raises(ConfigError, match=f"OPTIMIZATION.{key}: .*{words}"):
        build_optimizer(nn.Linear(1, 1), wrong)
        build_schedule(wrong, iterations_per_epoch=10, epochs=10)
        loss_scale(wrong)


@given(
    st.integers(1, 50),
    st.integers(1, 20),
    st.sampled_from(["adam_onecycle", "adam_cosineanneal", "adam", "sgd"]),
    st.booleans(),
)
def test_rates_are_positive_and_never_above_the_top(
    per_epoch: int, epochs: int, name: str, warmup: bool
) -> None:
    schedule = build_schedule(config(OPTIMIZER=name, LR_WARMUP=warmup), per_epoch, epochs)
    for iteration in range(per_epoch * epochs):
        learning_rate, momentum = schedule(iteration)
        assert 0 < learning_rate <= TOP_RATE * (1 + 1e-9)
        assert momentum is None or 0.85 - 1e-9 <= momentum <= 0.95 + 1e-9
