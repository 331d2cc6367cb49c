"""The declared structure of a checkpoint: each misfit is named by the keys that lead to it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pcdet_distill.checkpoint import load_checkpoint, save_checkpoint
from pcdet_distill.checkpoint.contents import problem_of
from pcdet_distill.engine.checkpoints import random_state
from pcdet_distill.errors import CheckpointError

WEIGHTS = {"w": torch.ones(2)}


def state_with(generator: str, value: object) -> dict:
    """A checkpoint of two processes, the second with another state of a generator."""
    return {
        "model_state": WEIGHTS,
        "random_states": [random_state(), {**random_state(), generator: value}],
    }


@pytest.mark.parametrize(
    ("generator", "value", "words"),
    [
        ("python", "x", r"random_states\[1\]\.python' is 'x', expected a list of 3: a whole"),
        ("python", [3, [1, 2], None], r"python\[1\]' is .*, expected whole numbers from 0"),
        ("python", [3, [2**40] * 625, None], r"python\[1\]' is .* 1099511627776, expected"),
        ("numpy", ["MT19937", torch.ones(624), 0, 0, 0.0], r"numpy\[1\]' is a tensor \(624,\) of"),
        ("numpy", ["MT19937", torch.ones(3).long(), 0, 0, 0.0], r"numpy\[1\]' .* \(624,\) of int"),
        ("torch", None, r"torch' is None, expected a tensor \(N,\) of uint8"),
        ("cuda", torch.ones(2), r"cuda' is a tensor \(2,\) of torch.float32, expected"),
    ],
)
def test_the_state_of_every_generator_is_declared(generator, value, words):
    problem = problem_of(state_with(generator, value))
    assert problem is not None
    with pytest.raises(CheckpointError, match=words):
        raise CheckpointError(problem)


def test_a_process_without_a_generator_is_named():
    states = [{"python": random_state()["python"]}]
    problem = problem_of({"model_state": WEIGHTS, "random_states": states})
    assert problem is not None
    assert problem.startswith("its 'random_states[0].numpy' is missing, expected a list of 5")


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        ({"state": [1]}, r"optimizer_state\.state' is a list of 1, expected a mapping"),
        ({"param_groups": 3}, r"optimizer_state\.param_groups' is 3, expected a list"),
        ({"param_groups": [{"params": "a"}]}, r"param_groups\[0\]\.params' is 'a', expected"),
        ({"param_groups": [{"params": [0, "a"]}]}, r"params\[1\]' is 'a', expected a whole number"),
    ],
)
def test_the_groups_of_an_optimizer_are_declared(tmp_path, optimizer, words):
    torch.save({"model_state": WEIGHTS, "optimizer_state": optimizer}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD, torch.optim.AdamW])
def test_what_a_training_writes_fits(tmp_path, kind):
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = kind([weight], lr=0.1)
    weight.sum().backward()
    optimizer.step()
    np.random.normal()
    state = {
        "epoch": 1,
        "it": 2,
        "model_state": WEIGHTS,
        "optimizer_state": optimizer.state_dict(),
        "random_states": [random_state()],
    }
    save_checkpoint(state, tmp_path / "a.pth")
    loaded = load_checkpoint(tmp_path / "a.pth")
    assert loaded["random_states"][0]["python"] == random_state()["python"]
