"""Which form of an operator runs, and what is said when it is not the expected one."""

from __future__ import annotations

import logging
import sys
from types import ModuleType

import pytest
import torch

from pcdet_distill.errors import ConfigError
from pcdet_distill.ops import dispatch
from pcdet_distill.ops.dispatch import Form, Operator, form_for

CPU = torch.device("cpu")
GPU = torch.device("cuda", 0)


class CurrentDevice:
    """Stands for ``torch.cuda.device``: notes which device became the current one."""

    def __init__(self, device: torch.device, entered: list[torch.device]) -> None:
        self.device = device
        self.entered = entered

    def __enter__(self) -> None:
        self.entered.append(self.device)

    def __exit__(self, *error: object) -> None:
        pass


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test starts without a choice and with nothing said."""
    monkeypatch.delenv(dispatch.VARIABLE, raising=False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    dispatch._triton_works.cache_clear()
    dispatch._triton_problem.cache_clear()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """A made-up machine with Triton and a GPU; a test changes it."""
    facts: dict[str, object] = {"triton": object(), "capability": (9, 0)}
    monkeypatch.setattr(dispatch.importlib.util, "find_spec", lambda name: facts["triton"])
    cuda = torch.cuda
    monkeypatch.setattr(cuda, "get_device_capability", lambda device: facts["capability"])
    monkeypatch.setattr(cuda, "get_device_name", lambda device: "GTX 1080")
    facts["entered"] = []
    monkeypatch.setattr(cuda, "device", lambda device: CurrentDevice(device, facts["entered"]))
    return facts


def doubler() -> Operator[[int], str]:
    return Operator(
        "doubling",
        plain=lambda number: f"plain {2 * number}",
        numba=lambda number: f"numba {2 * number}",
        triton="no_such_file:double",
    )


def provide_kernel(monkeypatch: pytest.MonkeyPatch, kernel: object) -> None:
    """Let the operator find ``kernel`` as its Triton form."""
    module = ModuleType("no_such_file")
    module.double = kernel  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, f"{dispatch.TRITON_PACKAGE}.no_such_file", module)


def test_the_device_chooses(machine: dict[str, object]) -> None:
    assert form_for(CPU) is Form.NUMBA
    assert form_for(GPU) is Form.TRITON


def test_plain_on_every_device(machine: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dispatch.VARIABLE, "plain")
    assert doubler().on(CPU)(3) == "plain 6"
    assert doubler().on(GPU)(3) == "plain 6"


def test_triton_on_the_cpu_needs_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dispatch.VARIABLE, "triton")
    assert form_for(CPU) is Form.NUMBA
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert form_for(CPU) is Form.TRITON


def test_an_unknown_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dispatch.VARIABLE, "tritn")
    with pytest.raises(ConfigError, match="'tritn', expected one of auto, triton, plain"):
        form_for(CPU)


@pytest.mark.parametrize(
    ("fact", "value", "reason"),
    [
        ("triton", None, "the package triton is not installed"),
        ("capability", (6, 1), "GTX 1080 has compute capability 6.1, and Triton needs 7.0"),
    ],
)
def test_a_machine_without_triton_says_so_once(
    fact: str,
    value: object,
    reason: str,
    machine: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    machine[fact] = value
    with caplog.at_level(logging.WARNING, logger="pcdet_distill"):
        assert doubler().on(GPU)(1) == "plain 2"
        assert doubler().on(GPU)(2) == "plain 4"
    assert len(caplog.messages) == 1
    assert reason in caplog.messages[0]
    monkeypatch.setenv(dispatch.VARIABLE, "triton")
    with pytest.raises(ConfigError, match=f"PCDET_DISTILL_KERNELS=triton, but {reason}"):
        form_for(GPU)


def test_a_kernel_that_does_not_compile(
    machine: dict[str, object], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(number: int) -> str:
        raise RuntimeError("\nptxas is too old\nand more")

    provide_kernel(monkeypatch, broken)
    operator = doubler()
    with caplog.at_level(logging.WARNING, logger="pcdet_distill"):
        assert operator.on(GPU)(1) == "plain 2"
        assert operator.on(GPU)(2) == "plain 4"
    (message,) = caplog.messages
    assert message == (
        "doubling runs as plain PyTorch: its Triton kernel failed with RuntimeError: "
        "ptxas is too old"
    )
    monkeypatch.setenv(dispatch.VARIABLE, "triton")
    with pytest.raises(RuntimeError, match="ptxas"):
        doubler().on(GPU)(1)


def test_memory_that_ran_out_is_not_hidden(
    machine: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plain form would need more memory, not less."""

    def hungry(number: int) -> str:
        raise torch.OutOfMemoryError("CUDA out of memory")

    provide_kernel(monkeypatch, hungry)
    operator = doubler()
    with pytest.raises(torch.OutOfMemoryError):
        operator.on(GPU)(1)
    assert not operator.triton_failed


def test_a_working_kernel(machine: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    provide_kernel(monkeypatch, lambda number: f"triton {2 * number}")
    assert doubler().on(GPU)(3) == "triton 6"


def test_the_kernel_runs_on_the_device_of_its_tensors(
    machine: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton launches on the current device, which may be another one."""
    provide_kernel(monkeypatch, lambda number: f"entered {machine['entered']}")
    second = torch.device("cuda", 1)
    assert doubler().on(second)(3) == f"entered {[second]}"
