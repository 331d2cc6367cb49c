"""After an export: AP of the network and of its checkpoint side by side, on the same frames."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from torch import nn
from torch.utils.data import DataLoader

from ..engine.evaluation import EvalOutcome, evaluate_model
from ..inference import Detector
from ..models import Detector3DTemplate
from .config import ExportConfig
from .exported import ExportedModel
from .runners import Runner

# Where a benchmark has these numbers, they are the ones that papers compare.
COMPARED = "moderate_R40"


def compare_on_split(
    detector: Detector, loader: DataLoader, runners: Mapping[str, Runner], config: ExportConfig
) -> str:
    """A table of AP: the checkpoint, and each network by its name.

    Args:
        detector: of the checkpoint.
        loader: of a labelled split, one frame a batch.
        runners: networks.
        config: what their outputs mean.
    """
    model = detector.model
    assert isinstance(model, Detector3DTemplate)
    with detector.settings.applied_to(model):
        outcomes = {"checkpoint": _evaluate(model, loader, detector.device)}
        for name, runner in runners.items():
            exported = ExportedModel(model, runner, config)
            outcomes[name] = _evaluate(exported, loader, detector.device)
    first = outcomes["checkpoint"]
    if first.result is None:
        return f"no AP: {first.text}"
    return ap_table({name: _numbers(outcome) for name, outcome in outcomes.items()})


def ap_table(columns: Mapping[str, Mapping[str, float]]) -> str:
    """One line for each number, one column for each side."""
    first = next(iter(columns.values()))
    width = max([len(name) for name in first] + [8])
    widths = {name: max(len(name), 9) for name in columns}
    lines = [" ".join([f"{'AP':<{width}}", *(f"{name:>{widths[name]}}" for name in columns)])]
    for row in first:
        cells = [f"{numbers[row]:>{widths[name]}.2f}" for name, numbers in columns.items()]
        lines.append(" ".join([f"{row:<{width}}", *cells]))
    return "\n".join(lines)


def _evaluate(model: nn.Module, loader: DataLoader, device: torch.device) -> EvalOutcome:
    """AP of one side, without the report that an evaluation logs."""
    silent = logging.getLogger("pcdet_distill.export.silent")
    silent.propagate = False
    silent.setLevel(logging.ERROR)
    return evaluate_model(model, loader, device=device, logger=silent)


def _numbers(outcome: EvalOutcome) -> dict[str, float]:
    """The numbers that are compared, by name."""
    assert outcome.result is not None
    numbers = dict(outcome.result.ap_dict)
    compared = {name: value for name, value in numbers.items() if COMPARED in name}
    return compared or numbers
