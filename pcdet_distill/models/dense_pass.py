"""The dense part of a detector, compiled for evaluation: CUDA graphs on a GPU, PyTorch's compiler
on a CPU.

A scene has as many pillars or voxels as it has. From the map on, all shapes are fixed, and a pass
is a few hundred small steps. A GPU is done with many of them before the host has started the next.
A CUDA graph records all steps once, and starts them again by one call. So the sparse part stays as
it is, and the dense part is recorded for each batch size.

A module offers its dense part as ``dense_pass(*maps)`` and says so by ``has_dense_pass``. The
method may return any nesting of tensors. It must not wait for the device, copy from the host, or
choose its steps by values: a graph would repeat what the first batch did.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from ..errors import ConfigError, first_line

SLOTS = ("backbone_2d", "dense_head")
METHOD = "dense_pass"
# Batch sizes (and precisions) that are recorded; each keeps its memory. Others run as they are.
MOST_RECORDINGS = 8
# Passes before the recording, in which cuDNN chooses its algorithms.
WARM_UP = 3

# Any nesting of tensors.
Outputs: TypeAlias = Any
Compute: TypeAlias = Callable[..., Outputs]
# Runs a pass once and records it: its outputs, and what runs it again into the same outputs.
Recorder: TypeAlias = Callable[[Callable[[], Outputs]], tuple[Outputs, Callable[[], None]]]


class Recording(NamedTuple):
    """A recorded pass.

    Attributes:
        maps: where it reads its inputs.
        outputs: where it writes its results.
        replay: runs it.
    """

    maps: tuple[Tensor, ...]
    outputs: Outputs
    replay: Callable[[], None]


def compile_dense_part(model: nn.Module, device: torch.device, flag: str = "--compile") -> None:
    """Compile the dense part of a detector in eval mode; it trains as before.

    What the dense part writes into a batch is overwritten by the next batch. Final boxes are not.

    Args:
        model: a detector, on ``device`` already.
        device: cpu or cuda.
        flag: what a message calls the option.
    """
    modules = dense_modules(model)
    if not modules:
        raise ConfigError(
            f"{flag}: {type(model).__name__} has no dense part to compile, which begins at a map "
            f"from above; leave {flag} out"
        )
    if device.type != "cuda":
        _check_compiler(device, flag)
    for module in modules:
        compute = getattr(module, METHOD)
        of_module = GraphPass if device.type == "cuda" else CompiledPass
        # Before the method of its class, the module finds this one.
        setattr(module, METHOD, of_module(module, compute))


def dense_modules(model: nn.Module) -> list[nn.Module]:
    """The slots whose dense part can be compiled, in the order in which they run."""
    modules: list[nn.Module] = []
    for slot in SLOTS:
        module = getattr(model, slot, None)
        if module is not None and getattr(module, "has_dense_pass", False):
            modules.append(module)
    return modules


class CompiledPass:
    """A dense pass through PyTorch's compiler.

    Args:
        module: to which the pass belongs.
        compute: the pass.
    """

    def __init__(self, module: nn.Module, compute: Compute) -> None:
        self._module = module
        self._compute = compute
        self._compiled = torch.compile(compute, dynamic=False)

    def __call__(self, *inputs: Tensor | int) -> Outputs:
        """The outputs for ``inputs``."""
        is_usable = can_be_replaced(self._module)
        return self._compiled(*inputs) if is_usable else self._compute(*inputs)


def record_cuda_graph(run: Callable[[], Outputs]) -> tuple[Outputs, Callable[[], None]]:
    """Record a pass as a CUDA graph, as PyTorch's manual says: warmed up in another stream."""
    current = torch.cuda.current_stream()
    side = torch.cuda.Stream()
    side.wait_stream(current)
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            run()
    current.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    # Loader threads pin memory meanwhile, which the default mode forbids to all threads.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        outputs = run()
    return outputs, graph.replay


class GraphPass:
    """A dense pass that is recorded once for each kind of input, and replayed from then on.

    Args:
        module: to which the pass belongs.
        compute: the pass.
        record: runs and records it.
    """

    def __init__(
        self, module: nn.Module, compute: Compute, record: Recorder = record_cuda_graph
    ) -> None:
        self._module = module
        self._compute = compute
        self._record = record
        self._recordings: dict[Hashable, Recording] = {}

    def __call__(self, *inputs: Tensor | int) -> Outputs:
        """The outputs for ``inputs``. They are overwritten by the next call."""
        if not can_be_replaced(self._module):
            return self._compute(*inputs)
        key = (tuple(_kind(given) for given in inputs), _precision(), _places(self._module))
        if key not in self._recordings:
            if len(self._recordings) == MOST_RECORDINGS:
                return self._compute(*inputs)
            self._recordings[key] = self._record_pass(inputs)
        recording = self._recordings[key]
        maps = [given for given in inputs if isinstance(given, Tensor)]
        for kept, given in zip(recording.maps, maps):
            kept.copy_(given)
        recording.replay()
        # New lists and dicts, so that nobody adds to those of the recording.
        return tree_map(lambda output: output, recording.outputs)

    def _record_pass(self, inputs: tuple[Tensor | int, ...]) -> Recording:
        kept = [given.clone() if isinstance(given, Tensor) else given for given in inputs]
        outputs, replay = self._record(lambda: self._compute(*kept))
        maps = tuple(given for given in kept if isinstance(given, Tensor))
        return Recording(maps, outputs, replay)


def can_be_replaced(module: nn.Module) -> bool:
    """Whether a pass may run compiled: without gradients, and while no hook wants to see it."""
    if torch.is_grad_enabled() or module.training:
        return False
    return not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def _kind(given: Tensor | int) -> Hashable:
    """What a recording depends on in one input."""
    if isinstance(given, Tensor):
        return given.shape, given.stride(), given.dtype, given.device
    return given


def _precision() -> Hashable:
    """What a recording depends on in PyTorch's settings."""
    return (
        torch.is_autocast_enabled("cuda"),
        torch.get_autocast_dtype("cuda"),
        torch.backends.cudnn.allow_tf32,
        torch.backends.cuda.matmul.allow_tf32,
        torch.is_inference_mode_enabled(),
    )


def _places(module: nn.Module) -> Hashable:
    """Where the weights are: a recording reads them there, also after new ones were loaded."""
    tensors = [*module.parameters(), *module.buffers()]
    return tuple(tensor.data_ptr() for tensor in tensors)


def _check_compiler(device: torch.device, flag: str) -> None:
    """Refuse a machine on which PyTorch cannot compile, before minutes of work."""
    try:
        torch.compile(_plus_one, dynamic=False)(torch.zeros(2, device=device))
    except Exception as error:  # of the compiler's many kinds
        raise ConfigError(
            f"{flag}: PyTorch cannot compile for {device.type} here ({first_line(error)}); install "
            f"a C++ compiler such as g++, or leave {flag} out"
        ) from error


def _plus_one(values: Tensor) -> Tensor:
    return values + 1
