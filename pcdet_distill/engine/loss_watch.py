"""Notices a loss that is not finite: which term, in which step, of which frames.

On CUDA a look at the loss makes the host wait for the device. So there the device itself remembers
the first bad step, and the host asks for it when a log line or a checkpoint is due. On a CPU, and
when such steps are to be skipped, every loss is looked at before the weights change.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..texts import listed
from .checkpoints.randomness import RandomState, random_state, restore_random_state
from .distributed import StepGroup

NONE_YET = -1
FRAMES_SHOWN = 8
# So many bad steps in a row are no accident.
MAX_SKIPPED_IN_A_ROW = 50
REMEDY = (
    "lower OPTIMIZATION.LR or set OPTIMIZATION.GRAD_NORM_CLIP, and look at these frames "
    "(pcdet-distill doctor); --on_nan skip leaves such steps out"
)


class NonFiniteStep(Exception):
    """A step that must not change the weights, in a sentence."""


@dataclass(frozen=True)
class Step:
    """What one process knows of a step: its number from 1, its values, its frames."""

    iteration: int
    values: Mapping[str, Tensor | float]
    frames: Sequence[str]

    def bad_values(self) -> list[str]:
        """Names of the values that are not finite, the sum of all terms last."""
        names = [name for name, value in self.values.items() if not _is_finite(value)]
        return sorted(names, key=lambda name: name in ("loss", "grad_norm"))

    def sentence(self) -> str:
        """Term, step and frames."""
        names = self.bad_values()
        terms = [name for name in names if name not in ("loss", "grad_norm")] or names
        frames = listed(self.frames, FRAMES_SHOWN)
        what = " and ".join(f"{name} became {self._text(name)}" for name in terms[:3])
        return f"{what or 'the loss is not finite'} in iteration {self.iteration}, frames {frames}"

    def _text(self, name: str) -> str:
        return f"{float(self.values[name])}"


class LossWatch:
    """Looks at every step of one process.

    Args:
        model: its buffers are put back after a bad step, whose forward pass has already changed
            the statistics of the norms. So are the random generators when the training stops.
        group: all processes leave out the same steps.
        device: on CUDA the watch waits for a log line, unless steps are skipped.
        skip: leave steps out (``--on_nan skip``) in place of stopping.
    """

    def __init__(
        self, model: nn.Module, group: StepGroup, device: torch.device, *, skip: bool = False
    ) -> None:
        self.group = group
        self.skip = skip
        self.immediate = skip or device.type != "cuda"
        # What a forward pass changes is in the checkpoints; anchors and grids are not, and large.
        stored = model.state_dict().keys()
        self._buffers = [each for name, each in model.named_buffers() if name in stored]
        self._kept = [each.clone() for each in self._buffers] if self.immediate else []
        self._random_state: RandomState | None = None
        self._steps: list[Step] = []
        self._first_bad = torch.full((), NONE_YET, dtype=torch.int64, device=device)
        self.skipped_in_a_row = 0

    def before_step(self) -> None:
        """Keep what a forward pass changes."""
        if not self.immediate:
            return
        if self._buffers:
            torch._foreach_copy_(self._kept, self._buffers)
        if not self.skip:
            self._random_state = random_state()

    def see(self, step: Step, number: Tensor) -> None:
        """Look at a loss, or at the norm of the gradients, before the weights change.

        Raises:
            NonFiniteStep: this step, in any process, must not change the weights.
        """
        if not self.immediate:
            self._remember(step, number)
            return
        found = None if math.isfinite(float(number.detach())) else step.sentence()
        found = self.group.first(found)
        if found is None:
            return
        if self._buffers:
            torch._foreach_copy_(self._buffers, self._kept)
        if self._random_state is not None:
            restore_random_state(self._random_state)
        self.skipped_in_a_row += 1
        raise NonFiniteStep(found)

    def step_done(self) -> None:
        """The weights have changed: steps that are left out later begin a new row."""
        self.skipped_in_a_row = 0

    def check(self) -> None:
        """Raise an error for the first bad step since the last call. This waits for the device."""
        steps, self._steps = self._steps, []
        if self.immediate or not steps:
            return
        number = int(self._first_bad)
        for step in steps:
            if step.iteration == number and step.bad_values():
                raise ConfigError(
                    f"training: {step.sentence()}; the checkpoints are from before it; {REMEDY}"
                )

    def _remember(self, step: Step, number: Tensor) -> None:
        """Note the first bad step on the device; the host asks later."""
        self._steps.append(step)
        is_first = (self._first_bad == NONE_YET) & ~torch.isfinite(number.detach())
        self._first_bad.masked_fill_(is_first, step.iteration)


def _is_finite(value: Tensor | float) -> bool:
    """Whether one number is finite; what is no number counts as finite."""
    if isinstance(value, Tensor):
        return value.numel() != 1 or bool(torch.isfinite(value.detach()))
    return not isinstance(value, float) or math.isfinite(value)
