"""The distillation's own tensors in a checkpoint that OpenPCDet writes.

OpenPCDet saves ``model.state_dict()`` and nothing else of a model. That must be the student alone,
so that its test.py can load it. PyTorch keeps versions of modules in the attribute ``_metadata`` of
a state dict, and pickles it along. The tensors that only a resumed distillation needs are put
there.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import Tensor

DISTILL_STATE = "distill_state"  # key in ``_metadata``


def with_distill_state(
    state: Mapping[str, Tensor], distill_state: Mapping[str, Tensor]
) -> OrderedDict[str, Tensor]:
    """The student's ``state`` with ``distill_state`` in its metadata.

    With several processes OpenPCDet fills an empty copy, ``type(state)()``. So the metadata belong
    to the class of what is returned, not to the instance alone. In the file it is an ordinary
    OrderedDict.
    """
    metadata = OrderedDict(getattr(state, "_metadata", None) or {})
    metadata[DISTILL_STATE] = dict(distill_state)

    class StudentState(OrderedDict):
        _metadata = metadata

        def __reduce__(self) -> tuple[Any, ...]:
            return OrderedDict, (), {"_metadata": metadata}, None, iter(self.items())

    return StudentState(state)


def distill_state_of(state: Mapping[str, Tensor]) -> Mapping[str, Tensor] | None:
    """What ``with_distill_state`` added; None for the state of a plain training."""
    metadata = getattr(state, "_metadata", None) or {}
    return metadata.get(DISTILL_STATE)
