"""Which form of an operator runs: compiled by numba, compiled by Triton, or plain PyTorch.

Every operator has a plain form. On the CPU numba's form takes its place, on CUDA Triton's form.
The environment variable PCDET_DISTILL_KERNELS chooses otherwise:

* ``auto`` (default): as above. Where Triton cannot run, the plain form does, and one line says why.
* ``triton``: Triton on CUDA, or an error. On the CPU too when TRITON_INTERPRET=1 switches Triton's
  interpreter on; this is slow, and for tests.
* ``plain``: plain PyTorch on every device.
"""

from __future__ import annotations

import enum
import importlib
import importlib.util
import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, partial
from typing import Generic, ParamSpec, TypeVar, cast

import torch

from ..errors import ConfigError, UserError

VARIABLE = "PCDET_DISTILL_KERNELS"
CHOICES = ("auto", "triton", "plain")
MIN_CAPABILITY = (7, 0)  # of a GPU that Triton supports
TRITON_PACKAGE = "pcdet_distill.ops.accelerated.triton"

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

logger = logging.getLogger(__name__)


class Form(enum.Enum):
    """The forms of an operator."""

    PLAIN = "plain"
    NUMBA = "numba"
    TRITON = "triton"


class Operator(Generic[Parameters, Result]):
    """The forms of one operator; all of them take and return the same.

    Args:
        name: for messages.
        plain: plain PyTorch, on any device.
        numba: for tensors on the CPU; None: the plain form.
        triton: ``module:function`` below ``ops/accelerated/triton``, imported on first use.
    """

    def __init__(
        self,
        name: str,
        *,
        plain: Callable[Parameters, Result],
        numba: Callable[Parameters, Result] | None = None,
        triton: str,
    ) -> None:
        self.name = name
        self.plain = plain
        self.numba = numba or plain
        self.triton = triton
        self.triton_failed = False

    def on(self, device: torch.device) -> Callable[Parameters, Result]:
        """The form for tensors of this device."""
        form = form_for(device)
        if form is Form.NUMBA:
            return self.numba
        if form is Form.TRITON and not self.triton_failed:
            return partial(self._run_triton, device)
        return self.plain

    def triton_form(self) -> Callable[Parameters, Result]:
        """The Triton form; an ImportError without Triton."""
        module, function = self.triton.split(":")
        found = getattr(importlib.import_module(f"{TRITON_PACKAGE}.{module}"), function)
        return cast(Callable[Parameters, Result], found)

    def _run_triton(
        self, device: torch.device, *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result:
        """The Triton form; the plain one from now on where the kernel cannot be compiled."""
        try:
            with _current(device):
                return self.triton_form()(*args, **kwargs)
        except (torch.OutOfMemoryError, UserError, AssertionError):
            raise
        # Triton, ptxas and the driver each raise errors of their own.
        except Exception as error:
            if chosen_kernels() == "triton":
                raise
            self.triton_failed = True
            logger.warning(
                "%s runs as plain PyTorch: its Triton kernel failed with %s: %s",
                self.name,
                type(error).__name__,
                _first_line(error),
            )
            return self.plain(*args, **kwargs)


def chosen_kernels() -> str:
    """The value of PCDET_DISTILL_KERNELS."""
    value = os.environ.get(VARIABLE, "") or "auto"
    if value not in CHOICES:
        raise ConfigError(
            f"environment variable {VARIABLE} is '{value}', expected one of {', '.join(CHOICES)}"
        )
    return value


def form_for(device: torch.device) -> Form:
    """The form of all operators for tensors of this device."""
    choice = chosen_kernels()
    if choice == "plain":
        return Form.PLAIN
    if device.type == "cpu":
        interpreted = choice == "triton" and os.environ.get("TRITON_INTERPRET") == "1"
        return Form.TRITON if interpreted else Form.NUMBA
    if choice == "triton":
        problem = _triton_problem(device)
        if problem:
            raise ConfigError(f"{VARIABLE}=triton, but {problem}")
        return Form.TRITON
    return Form.TRITON if _triton_works(device) else Form.PLAIN


@lru_cache
def _triton_works(device: torch.device) -> bool:
    """Whether Triton's kernels run there; if not, a warning says why, once."""
    problem = _triton_problem(device)
    if problem:
        logger.warning(
            "operators on %s run as plain PyTorch, which is slow: %s (%s=plain hides this line)",
            device,
            problem,
            VARIABLE,
        )
    return not problem


@lru_cache
def _triton_problem(device: torch.device) -> str:
    """Why Triton's kernels cannot run on a device; empty when they can."""
    if device.type != "cuda":
        return f"Triton's kernels are for CUDA, not for {device.type}"
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed"
    capability = torch.cuda.get_device_capability(device)
    if capability < MIN_CAPABILITY:
        name = torch.cuda.get_device_name(device)
        major, minor = capability
        return f"{name} has compute capability {major}.{minor}, and Triton needs 7.0"
    return ""


def _current(device: torch.device) -> AbstractContextManager[object]:
    """Make a GPU the current one, on which Triton launches, wherever the tensors are."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _first_line(error: Exception) -> str:
    """The first line of an error's text that is not empty."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line), "no message")
