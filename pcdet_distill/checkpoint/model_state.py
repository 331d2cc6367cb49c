"""State dicts and models: what fits is copied, what does not is reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from ..errors import CheckpointError
from .words import shorten

# Counts training steps inside the model; checkpoints older than the buffer do not have it.
OPTIONAL_KEYS = frozenset({"global_step"})


@dataclass
class LoadReport:
    """What happened to the tensors of a state dict when it was loaded into a model.

    Attributes:
        loaded: names of the tensors that were copied.
        missing: names that the model has and the file has not.
        unexpected: names that the file has and the model has not.
        mismatched: names of tensors with another shape, followed by both shapes.
    """

    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)

    @property
    def problems(self) -> str:
        """The three kinds of misfits in one phrase; empty when there is none."""
        kinds = {
            "missing": self.missing,
            "not in the model": self.unexpected,
            "of another shape": self.mismatched,
        }
        phrases = [
            f"{len(names)} {kind}: {shorten(names)}" for kind, names in kinds.items() if names
        ]
        return "; ".join(phrases)

    def __str__(self) -> str:
        total = len(self.loaded) + len(self.missing) + len(self.mismatched)
        summary = f"loaded {len(self.loaded)} of {total} tensors"
        return f"{summary}; {self.problems}" if self.problems else summary


def load_model_state(
    model: nn.Module, state: Mapping[str, Tensor], *, strict: bool, where: str
) -> LoadReport:
    """Copy a state dict into a model, which an error leaves unchanged.

    Args:
        model: the model to change.
        state: a state dict. Prefixes ``module.`` are dropped, and the sparse weights of spconv 1.x
            are brought into our layout.
        strict: whether any tensor that is missing, unexpected or of another shape is an error.
            Otherwise the fitting ones are loaded, and it is only an error when there is none.
        where: the source of ``state``, for the message.
    """
    model_state = model.state_dict()
    fitting: dict[str, Tensor] = {}
    report = LoadReport()
    present = set()
    for key, value in _without_module_prefix(state).items():
        if key not in model_state:
            report.unexpected.append(key)
            continue
        present.add(key)
        target = model_state[key]
        value = _to_our_layout(value, target, key, model)
        if value.shape == target.shape:
            fitting[key] = value
        else:
            report.mismatched.append(f"{key} {tuple(value.shape)}, model {tuple(target.shape)}")
    report.loaded = list(fitting)
    report.missing = [key for key in model_state if key not in present | OPTIONAL_KEYS]
    if (strict and report.problems) or not fitting:
        problems = report.problems or "it holds no tensors"
        raise CheckpointError(f"{where}: does not fit the model: {problems}")
    model.load_state_dict(fitting, strict=False)
    return report


def _without_module_prefix(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """DistributedDataParallel puts ``module.`` before every name."""
    if all(key.startswith("module.") for key in state):
        return {key.removeprefix("module."): value for key, value in state.items()}
    return state


def _to_our_layout(value: Tensor, target: Tensor, key: str, model: nn.Module) -> Tensor:
    """The weight of a sparse convolution in the layout of ``target``.

    spconv 1.x stored (z, y, x, in, out). Ours, and spconv 2's implicit GEMM, is (out, z, y, x, in);
    spconv 2's native algorithm wants (z, y, x, out, in). A weight that fits none stays as it is.
    """
    same_shape = value.shape == target.shape
    if same_shape or value.dim() != target.dim() or not _is_sparse_weight(key, target, model):
        return value
    channels_swapped = value.transpose(-1, -2)
    output_first = value.permute(-1, *range(value.dim() - 1))
    for turned in (channels_swapped, output_first):
        if turned.shape == target.shape:
            return turned
    return value


def _is_sparse_weight(key: str, target: Tensor, model: nn.Module) -> bool:
    """Whether ``key`` is the weight of a convolution that is not one of torch's.

    The axes of torch's own convolutions never need turning: a misfit there is an error.
    """
    owner, _, name = key.rpartition(".")
    is_dense = isinstance(model.get_submodule(owner), (nn.modules.conv._ConvNd, nn.Linear))
    return name == "weight" and target.dim() in (4, 5) and not is_dense
