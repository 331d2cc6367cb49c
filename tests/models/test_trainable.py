"""The training contract: defaults of a plain detector, and modules of other libraries."""

from __future__ import annotations

import logging

import pytest
import torch
from small_model import small_model
from torch import Tensor, nn

from pcdet_distill.errors import CheckpointError
from pcdet_distill.models.trainable import TrainableModule, WrappedModule, as_trainable
from pcdet_distill.types import BatchDict


class UnusedData:
    """Training data that no plain detector may ask for."""

    class_names = ("Car",)

    def first_frames(self, count: int) -> list[BatchDict]:
        """Fails: nobody may ask for frames."""
        raise AssertionError("a plain detector needs no frames before it is trained")


class OtherDetector(nn.Module):
    """A detector that knows nothing of this library."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, batch_dict: BatchDict) -> tuple[dict[str, Tensor], dict, dict]:
        """The mean output as the loss, and nothing to log."""
        loss = self.layer(batch_dict["values"]).mean()
        return {"loss": loss}, {}, {}


class CountingDetector(OtherDetector):
    """A detector with its own step counter and its own checkpoints."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def update_global_step(self) -> None:
        """Count."""
        self.steps += 1

    def checkpoint_state(self) -> dict[str, object]:
        """Weights and count."""
        return {"model_state": self.state_dict(), "steps": self.steps}

    def load_checkpoint_state(self, state: dict[str, int], where: str) -> str:
        """The count alone."""
        self.steps = state["steps"]
        return f"loaded {where}"


def test_our_detectors_are_trainable_as_they_are() -> None:
    detector = small_model()
    assert as_trainable(detector) is detector


@pytest.mark.parametrize("model", [TrainableModule(), as_trainable(OtherDetector())])
def test_a_plain_module_needs_no_preparation(model: TrainableModule) -> None:
    logger = logging.getLogger("test")
    model.check_before_training(UnusedData(), logger)
    model.init_before_training(UnusedData(), logger)
    model.set_progress(0.5)
    model.update_global_step()


def test_a_wrapped_module_keeps_its_own_names() -> None:
    detector = OtherDetector()
    wrapped = as_trainable(detector)
    assert isinstance(wrapped, WrappedModule)
    state = wrapped.checkpoint_state()
    assert set(state["model_state"]) == {"layer.weight", "layer.bias"}
    fresh = OtherDetector()
    as_trainable(fresh).load_checkpoint_state(state, "state.pth")
    assert torch.equal(fresh.layer.weight, detector.layer.weight)


def test_a_wrapped_module_computes_what_it_computed() -> None:
    detector = OtherDetector()
    batch = {"values": torch.ones(3, 2)}
    expected, _, _ = detector(batch)
    found, _, _ = as_trainable(detector)(batch)
    assert torch.equal(found["loss"], expected["loss"])


def test_methods_of_the_wrapped_module_are_called() -> None:
    detector = CountingDetector()
    wrapped = as_trainable(detector)
    wrapped.update_global_step()
    assert wrapped.checkpoint_state()["steps"] == 1
    assert wrapped.load_checkpoint_state({"steps": 7}, "state.pth") == "loaded state.pth"
    assert detector.steps == 7


@pytest.mark.parametrize("model", [TrainableModule(), as_trainable(OtherDetector())])
@pytest.mark.parametrize("state", [{"epoch": 1}, {"model_state": 3}])
def test_a_file_without_weights_is_refused(model: TrainableModule, state: dict) -> None:
    with pytest.raises(CheckpointError, match="state.pth: no 'model_state' in it"):
        model.load_checkpoint_state(state, "state.pth")
