"""RECONSTRUCT: new weights for the student's layers, so that each puts out what the teacher's layer does.

In running order: what the student's own layers so far make of the calibration frames is regressed on the teacher's
output of the kept channels (before batch norm), by least squares with a little shrinkage. A constant that is left goes
into the bias, or into the mean of the norm behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import DataError
from .calibration import draw, look
from .layers import Layer, features_of, listening, run
from .options import WHERE
from .patches import at_rows, patches, place_of, targets, weight_of
from .plan import Plan
from .weights import Proposals

RIDGE = 1e-3  # times the mean of the diagonal


class Wanted:
    """Of every layer that is to be fitted, in every batch and run: places, and the teacher's output there."""

    def __init__(
        self,
        teacher: Any,
        plan: Plan,
        batches: Sequence[Mapping[str, Any]],
        samples: int,
        generator: torch.Generator,
    ) -> None:
        self.layers = [
            name
            for name, flow in plan.flows.items()
            if not flow.layer.is_norm and not plan.is_exact(name)
        ]
        self.by_batch: list[dict[str, list[tuple[int, Tensor, Tensor]]]] = []
        for batch in batches:
            found: dict[str, list[tuple[int, Tensor, Tensor]]] = {}
            seen, interest = look(teacher, plan, batch)
            for layer, value, output in seen:
                if layer.name in self.layers:
                    base = place_of(layer, value, output)
                    rows = draw(
                        interest.weights(layer, base), -(-samples // len(batches)), generator
                    )
                    answer = targets(layer, output, rows, plan.outputs(layer.name).to(rows.device))
                    places = at_rows(layer, base, rows)
                    found.setdefault(layer.name, []).append(
                        (len(features_of(base)), places, answer)
                    )
            self.by_batch.append(found)


@torch.no_grad()
def reconstruct(
    teacher: Any,
    student: Any,
    plan: Plan,
    batches: Sequence[Mapping[str, Any]],
    proposals: Proposals,
    samples: int,
    generator: torch.Generator,
) -> list[float]:
    """Fit the student's layers in running order; gives how much of each one's variance is explained (R squared)."""
    wanted = Wanted(teacher, plan, batches, samples, generator)
    return [_fit(student, plan, name, wanted, batches, proposals) for name in wanted.layers]


def _fit(
    student: Any,
    plan: Plan,
    name: str,
    wanted: Wanted,
    batches: Sequence[Mapping[str, Any]],
    proposals: Proposals,
) -> float:
    """One layer."""
    layer = plan.student_layers[name]
    pairs = [
        pair
        for number, batch in enumerate(batches)
        for pair in _pairs(student, plan, layer, batch, number, wanted, proposals)
    ]
    if not pairs:
        raise DataError(
            f"{WHERE}: on the calibration frames {name} sees nothing, so it cannot be fitted; use more "
            "FRAMES, or SLICE"
        )
    seen, answers = (torch.cat(parts).double() for parts in zip(*pairs))
    norm = norm_behind(plan, name)
    with_constant = layer.module.bias is not None or norm is not None
    solution, constant, explained = ridge(seen, answers, with_constant)
    layer.module.weight.copy_(weight_of(layer, solution))
    per_channel = constant.reshape(layer.outputs, -1).mean(dim=1)
    if layer.module.bias is not None:
        layer.module.bias.copy_(per_channel)
    elif norm is not None:
        norm.running_mean.sub_(per_channel.to(norm.running_mean))
    return explained


def norm_behind(plan: Plan, name: str) -> nn.Module | None:
    """The student's norm that sees all of a layer's output and nothing else; None when a constant would get lost."""
    for other, flow in plan.flows.items():
        if (
            flow.layer.is_norm
            and flow.everywhere
            and all(
                len(sources) == 1 and sources[0] == (name, column)
                for column, sources in enumerate(flow.sources)
            )
        ):
            return plan.student_layers[other].module
    return None


def _pairs(
    student: Any,
    plan: Plan,
    layer: Layer,
    batch: Mapping[str, Any],
    number: int,
    wanted: Wanted,
    proposals: Proposals,
) -> list[tuple[Tensor, Tensor]]:
    """Patches (S, D) that the student's layer sees in a batch, and what it should make of them (S, outputs)."""
    waiting = list(wanted.by_batch[number].get(layer.name, ()))
    found: list[tuple[Tensor, Tensor]] = []

    def listener(_: Layer, inputs: tuple, output: Any) -> None:
        total, places, answer = waiting.pop(0)
        if len(features_of(place_of(layer, inputs[0], output))) != total:
            raise DataError(
                f"{WHERE}: {layer.name} sees other rows in the student than in the teacher, so its output "
                "cannot be compared row by row; use SLICE"
            )
        found.append((patches(layer, inputs[0], features_of(output).shape, places), answer))
        if not waiting:
            raise _Seen

    try:
        with (
            proposals.replayed(plan.student_layers, number),
            listening({layer.name: layer}, listener),
        ):
            if waiting:
                run(student, batch)
    except _Seen:
        pass
    return found


class _Seen(Exception):
    """The layer has run: the way out of the student."""


def ridge(seen: Tensor, answers: Tensor, with_constant: bool) -> tuple[Tensor, Tensor, float]:
    """The linear map (D, outputs) from ``seen`` (S, D) to ``answers`` (S, outputs), its constant, and R squared."""
    middle = seen.mean(dim=0) if with_constant else torch.zeros_like(seen[0])
    target = answers.mean(dim=0) if with_constant else torch.zeros_like(answers[0])
    inputs, outputs = seen - middle, answers - target
    shrink = max(RIDGE * float(inputs.square().sum()) / inputs.shape[1], 1e-12)
    wide = inputs.shape[1] > inputs.shape[0]  # the smaller of two equal systems
    gram = inputs @ inputs.T if wide else inputs.T @ inputs
    gram.diagonal().add_(shrink)
    solution = (
        inputs.T @ torch.linalg.solve(gram, outputs)
        if wide
        else torch.linalg.solve(gram, inputs.T @ outputs)
    )
    missed = (outputs - inputs @ solution).square().sum()
    explained = 1 - float(missed / outputs.square().sum().clamp_min(1e-12))
    return solution, target - middle @ solution, explained
