"""Gives a two-stage student the teacher's proposals while it is measured or fitted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

from ...models import Detector3DTemplate
from ...types import BatchDict
from .layers import Features, Layer, layer_hooks, record_outputs
from .plan import ChannelPlan


class TeacherPredictions:
    """The teacher's predictions on the calibration frames, to be put in place of the student's.

    A RoI head pools features inside proposals. With other proposals it would pool other rows, and
    teacher and student could not be compared row by row. The predictions of the last head are not
    kept: no layer reads what follows from them.

    Args:
        plan: how channels flow.
        predictions: names of the layers that predict.
    """

    def __init__(self, plan: ChannelPlan, predictions: set[str]) -> None:
        order = list(plan.flows)
        last_feature_layer = -1
        for position, name in enumerate(order):
            if name not in predictions and not plan.flows[name].layer.is_norm:
                last_feature_layer = position
        before = order[: max(last_feature_layer, 0)]
        self._names = [name for name in before if name in predictions]
        self._outputs: list[dict[str, list[Features]]] = []  # by batch

    def record(
        self, teacher: Detector3DTemplate, plan: ChannelPlan, batches: Sequence[BatchDict]
    ) -> None:
        """Run the teacher and keep its predictions; a one-stage teacher has none to keep."""
        layers = {name: plan.flows[name].layer for name in self._names}
        self._outputs = [record_outputs(teacher, layers, batch) for batch in batches]

    def replayed(
        self, student_layers: Mapping[str, Layer], batch_number: int
    ) -> AbstractContextManager[None]:
        """In this ``with`` block the student predicts on a batch what the teacher predicted."""
        outputs: dict[str, Iterator[Features]] = {}
        for name, recorded in self._outputs[batch_number].items():
            outputs[name] = iter(recorded)

        def replace_output(
            layer: Layer, inputs: tuple[Features, ...], output: Features
        ) -> Features:
            return next(outputs[layer.name])

        return layer_hooks({name: student_layers[name] for name in outputs}, replace_output)
