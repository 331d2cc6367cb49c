"""Optimizers of OpenPCDet's OPTIMIZATION block, and loading of their stored states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ...config import lookup
from ...config.values import is_number
from ...errors import CheckpointError
from ...types import ConfigDict
from .schedules import Rate
from .values import number, number_pair, optimizer_name

BETAS = (0.9, 0.99)  # adam_onecycle and adam_cosineanneal without BETAS
AMP_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
LOSS_SCALE = 2.0**16  # OpenPCDet's first scale of --use_amp without LOSS_SCALE_FP16


def build_optimizer(model: nn.Module, config: ConfigDict) -> torch.optim.Optimizer:
    """The optimizer that ``config`` (cfg.OPTIMIZATION) names."""
    build = lookup(OPTIMIZERS, optimizer_name(config), "OPTIMIZATION.OPTIMIZER")
    return build(model, config)


def _adam_decoupled(model: nn.Module, config: ConfigDict) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019).

    OpenPCDet decays every parameter, BatchNorm and biases included. The momentum of the schedule
    takes the place of the first beta.
    """
    groups = [{"params": group} for group in parameter_groups(model)]
    betas = number_pair(config, "BETAS") if config.get("BETAS") is not None else BETAS
    return torch.optim.AdamW(
        groups,
        lr=number(config, "LR"),
        betas=betas,
        weight_decay=number(config, "WEIGHT_DECAY"),
    )


def _adam(model: nn.Module, config: ConfigDict) -> torch.optim.Optimizer:
    """Adam whose weight decay is part of the gradient."""
    return torch.optim.Adam(
        model.parameters(), lr=number(config, "LR"), weight_decay=number(config, "WEIGHT_DECAY")
    )


def _sgd(model: nn.Module, config: ConfigDict) -> torch.optim.Optimizer:
    """SGD with momentum."""
    return torch.optim.SGD(
        model.parameters(),
        lr=number(config, "LR"),
        momentum=number(config, "MOMENTUM"),
        weight_decay=number(config, "WEIGHT_DECAY"),
    )


OPTIMIZERS = {
    "adam_onecycle": _adam_decoupled,
    "adam_cosineanneal": _adam_decoupled,
    "adam": _adam,
    "sgd": _sgd,
}


def parameter_groups(model: nn.Module) -> list[list[nn.Parameter]]:
    """The trainable parameters in two groups: all others, then those of BatchNorm.

    OpenPCDet's one-cycle optimizer stores its state in these groups.
    """
    norms: list[nn.Parameter] = []
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            norms += module.parameters(recurse=False)
    norm_ids = {id(parameter) for parameter in norms}
    others = [parameter for parameter in model.parameters() if id(parameter) not in norm_ids]
    return [_trainable(others), _trainable(norms)]


def _trainable(parameters: Sequence[nn.Parameter]) -> list[nn.Parameter]:
    return [parameter for parameter in parameters if parameter.requires_grad]


def set_rate(optimizer: torch.optim.Optimizer, rate: Rate) -> None:
    """Set the learning rate and momentum of all parameter groups."""
    learning_rate, momentum = rate
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
        if momentum is not None:
            _, second_beta = group["betas"]
            group["betas"] = (momentum, second_beta)


def loss_scale(config: ConfigDict) -> float:
    """The factor of the first losses in mixed precision; later the gradients decide."""
    if config.get("LOSS_SCALE_FP16") is None:
        return LOSS_SCALE
    return float(number(config, "LOSS_SCALE_FP16"))


def amp_dtype(config: ConfigDict) -> torch.dtype:
    """The type of mixed precision: AMP_DTYPE, float16 by default.

    bfloat16 has float32's range, so its gradients need no loss scaling; it rounds more coarsely.
    """
    return lookup(AMP_DTYPES, config.get("AMP_DTYPE") or "float16", "OPTIMIZATION.AMP_DTYPE")


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: object, where: str) -> None:
    """Load the moments of ``state``. Options such as the weight decay stay those of the config.

    OpenPCDet decays weights by hand and stores a decay of 0, which would switch ours off.
    """
    if not isinstance(state, Mapping) or "state" not in state:
        raise CheckpointError(
            f"{where}: the optimizer_state is no state of an optimizer; "
            "expected 'state' and 'param_groups'"
        )
    groups = optimizer.state_dict()["param_groups"]
    saved_groups = state.get("param_groups", [])
    sizes = [len(group["params"]) for group in groups]
    saved_sizes = _group_sizes(saved_groups)
    if sizes != saved_sizes:
        raise CheckpointError(
            f"{where}: the optimizer state is of another model or optimizer: "
            f"parameters in groups of {saved_sizes}, expected {sizes}"
        )
    for group, saved_group in zip(groups, saved_groups):
        group["params"] = saved_group["params"]
    _check_moments(optimizer, groups, state["state"], where)
    optimizer.load_state_dict({"state": state["state"], "param_groups": groups})


def _group_sizes(groups: object) -> list[int] | None:
    """Number of parameters of each stored group; None for what are no groups."""
    if not isinstance(groups, Sequence):
        return None
    sizes = []
    for group in groups:
        numbers = group.get("params") if isinstance(group, Mapping) else None
        if not isinstance(numbers, Sequence) or not all(isinstance(each, int) for each in numbers):
            return None
        sizes.append(len(numbers))
    return sizes


# What each optimizer keeps of a parameter, as tensors.
MOMENTS = {
    torch.optim.Adam: ("exp_avg", "exp_avg_sq"),
    torch.optim.AdamW: ("exp_avg", "exp_avg_sq"),
}


def _check_kinds(optimizer: torch.optim.Optimizer, values: ConfigDict, where: str) -> None:
    """Refuse moments that are missing, or that are no tensors."""
    for name in MOMENTS.get(type(optimizer), ()):
        if values and not isinstance(values.get(name), Tensor):
            kind = type(optimizer).__name__
            raise CheckpointError(f"{where} has no tensor {name}, which {kind} keeps")
    if MOMENTS.get(type(optimizer)) and values:
        _check_step_count(values.get("step"), where)
    for name, value in values.items():
        is_unset = value is None and name != "step"  # as SGD's momentum before its first step
        if not (isinstance(value, Tensor) or is_number(value) or is_unset):
            raise CheckpointError(f"{where} has a {name} that is neither a tensor nor a number")


def _check_step_count(step: object, where: str) -> None:
    """The number of steps so far is a number, or a tensor of one, from 0 up."""
    if isinstance(step, Tensor) and step.numel() == 1 and step.dtype != torch.bool:
        step = step.item()
    if is_number(step) and 0 <= step < 2**53:
        return
    raise CheckpointError(f"{where} has no step, the number of steps so far")


def _check_moments(
    optimizer: torch.optim.Optimizer, groups: Sequence[ConfigDict], moments: object, where: str
) -> None:
    """Every moment is one number, or has the shape of its parameter."""
    shapes = {}
    for group, own_group in zip(groups, optimizer.param_groups):
        for index, parameter in zip(group["params"], own_group["params"]):
            shapes[index] = parameter.shape
    if not isinstance(moments, Mapping):
        raise CheckpointError(f"{where}: the optimizer_state has no moments; expected a mapping")
    for index, values in moments.items():
        shape = shapes.get(index)
        if shape is None or not isinstance(values, Mapping):
            raise CheckpointError(
                f"{where}: the optimizer_state has an entry {index!r} that is of no "
                "parameter; expected the moments of each parameter"
            )
        _check_kinds(optimizer, values, f"{where}: parameter {index} in the optimizer_state")
        for name, value in values.items():
            if isinstance(value, Tensor) and value.numel() != 1 and value.shape != shape:
                raise CheckpointError(
                    f"{where}: {name} of parameter {index} in the optimizer_state has "
                    f"shape {tuple(value.shape)}, expected {tuple(shape)}"
                )
