"""The check of an export: the network beside the checkpoint, frame by frame.

Both get the same pillars. The raw outputs must agree to the tolerance (``raw_outputs.py``), and the
final boxes must be the same (``same_boxes.py``). Where they are not, the frame runs once more with
every intermediate tensor as an output, and the first that differs is named: the layer to look at.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..errors import UserError
from ..extras import import_extra
from ..inference import Detector
from ..models import Detector3DTemplate
from ..models.taps import parse_tap
from ..types import BatchDict
from .boxes import Arrays, final_boxes
from .config import ExportConfig
from .exporter import Export
from .raw_outputs import (
    TOLERANCE,
    Difference,
    raw_difference,
    tensor_difference,
    worst,
)
from .reference import Reference, run_reference
from .runners import OnnxRuntimeRunner, Runner
from .same_boxes import BoxComparison, Side, same_boxes

if TYPE_CHECKING:
    import onnx


COORDS = "voxel_coords"
NUM_PADDING = 3


class ExportError(UserError):
    """An exported network that does not compute what its checkpoint computes."""


@dataclasses.dataclass
class CheckReport:
    """What the check found.

    Attributes:
        num_frames: frames that were compared.
        worst: the largest difference of raw outputs.
        num_boxes: final boxes that both sides have.
        num_excused: final boxes of one side that rounding explains.
        pillars: the smallest and largest number of pillars, or None where the inputs are maps.
    """

    num_frames: int
    worst: Difference
    num_boxes: int
    num_excused: int
    pillars: tuple[int, int] | None

    def __str__(self) -> str:
        text = (
            f"{self.num_frames} frames: raw outputs differ by {self.worst.error:.1g} at most, all "
            f"{self.num_boxes} final boxes are the same"
        )
        if self.pillars is not None:
            text += f"; {self.pillars[0]} to {self.pillars[1]} pillars"
        if self.num_excused:
            text += (
                f"; {self.num_excused} further boxes lie on a threshold, within rounding, and one "
                "side has them"
            )
        return text


def check_export(detector: Detector, export: Export, batches: Iterable[BatchDict]) -> CheckReport:
    """Run a network beside its checkpoint.

    Args:
        detector: of the checkpoint.
        export: of that detector.
        batches: of one frame each, on the device of the model.

    Raises:
        ExportError: the two do not agree; says how much, and where first.
    """
    model = detector.model
    assert isinstance(model, Detector3DTemplate)
    with detector.settings.applied_to(model), exact_matrix_products():
        return _check_frames(model, export.model, export.config, batches)


@contextlib.contextmanager
def exact_matrix_products() -> Iterator[None]:
    """Let a GPU multiply in float32: its TensorFloat-32 keeps three digits only."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def _check_frames(
    model: Detector3DTemplate,
    network: onnx.ModelProto,
    config: ExportConfig,
    batches: Iterable[BatchDict],
) -> CheckReport:
    runner = OnnxRuntimeRunner(network)
    differences: list[Difference] = []
    comparisons: list[BoxComparison] = []
    pillars: list[int] = []
    for batch in _with_odd_sizes(batches):
        reference = run_reference(model, batch, config.heads)
        outputs = runner(reference.inputs)
        difference = raw_difference(reference.outputs, outputs, config.heads)
        if difference.is_large:
            first = first_difference(model, network, batch, reference.inputs)
            raise ExportError(_raw_message(batch, difference, first))
        comparison = compare_boxes(reference, outputs, config)
        if not comparison.is_same:
            raise ExportError(_box_message(batch, comparison, config.class_names))
        if not comparisons:
            _check_padding(runner, reference.inputs)
        differences.append(difference)
        comparisons.append(comparison)
        pillars += [len(rows) for name, rows in reference.inputs.items() if name == COORDS]
    if not comparisons:
        raise ExportError("the check has no frames; expected at least one")
    return CheckReport(
        num_frames=len(comparisons),
        worst=worst(differences),
        num_boxes=sum(one.num_same for one in comparisons),
        num_excused=sum(one.num_excused for one in comparisons),
        pillars=(min(pillars), max(pillars)) if pillars else None,
    )


def compare_boxes(reference: Reference, outputs: Arrays, config: ExportConfig) -> BoxComparison:
    """The final boxes of a network beside those of the checkpoint, for one frame.

    The rules of the config are checked first, on the checkpoint's own outputs.
    """
    select_expected = functools.partial(final_boxes, reference.outputs, config)
    select_found = functools.partial(final_boxes, outputs, config)
    checkpoint = Side(reference.boxes, select_expected)
    expected = Side(final_boxes(reference.outputs, config), select_expected)
    rules = same_boxes(checkpoint, expected)
    if not rules.is_same:
        return rules
    found = Side(final_boxes(outputs, config), select_found)
    return same_boxes(expected, found, config.post_processing)


def first_difference(
    model: Detector3DTemplate, network: onnx.ModelProto, batch: BatchDict, inputs: Arrays
) -> Difference | None:
    """The first intermediate tensor of a network that is not what the checkpoint computes.

    Tensors have the names of taps, so the checkpoint's own are captured under the same names. A
    tensor of several hundred cannot have the digits of a small one: its differences are divided by
    its largest number.
    """
    names = intermediate_names(model, network)
    outputs = OnnxRuntimeRunner(with_outputs(network, names))(inputs)
    with torch.no_grad(), model.capture(names) as captured:
        model.run_modules(dict(batch))
    for name in names:
        expected = captured[name].float().cpu().numpy()
        largest = float(np.abs(expected).max(initial=1.0))
        difference = tensor_difference(name, expected, outputs[name], least=largest)
        if difference.is_large:
            return difference
    return None


def intermediate_names(model: Detector3DTemplate, network: onnx.ModelProto) -> list[str]:
    """The tensors of a network that are named as taps of the detector, in order."""
    modules = dict(model.named_modules())
    names = []
    for node in network.graph.node:
        names += [name for name in node.output if parse_tap(name).module in modules]
    return names


def with_outputs(network: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """A copy of a network with further tensors as outputs."""
    onnx = import_extra("onnx", needed_by="export")
    copied = type(network)()
    copied.CopyFrom(network)
    for name in names:
        info = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        copied.graph.output.append(info)
    return copied


def _with_odd_sizes(batches: Iterable[BatchDict]) -> Iterator[BatchDict]:
    """The frames, and before them the first one with no pillar and with one."""
    for number, batch in enumerate(batches):
        if number == 0:
            yield _cut(batch, 0)
            yield _cut(batch, 1)
        yield batch


def _cut(batch: BatchDict, count: int) -> BatchDict:
    """A frame with its first ``count`` voxels, and as many points."""
    cut = dict(batch)
    for key in ("points", "voxels", COORDS, "voxel_num_points"):
        if key in cut:
            cut[key] = cut[key][:count]
    return cut


def _check_padding(runner: Runner, inputs: Arrays) -> None:
    """Rows of zeros behind the pillars, as arrays of fixed size have them, must change nothing."""
    if "voxels" not in inputs:
        return
    padded = {}
    for name, rows in inputs.items():
        zeros = np.zeros((NUM_PADDING, *rows.shape[1:]), rows.dtype)
        padded[name] = np.concatenate([rows, zeros])
    expected = runner(inputs)
    for name, array in runner(padded).items():
        difference = tensor_difference(name, expected[name], array)
        if difference.is_large:
            raise ExportError(
                f"rows of zeros behind the pillars change the output '{name}' by "
                f"{difference.amount}"
            )


def _raw_message(batch: BatchDict, difference: Difference, first: Difference | None) -> str:
    if first is None:
        where = "every tensor before the decoding of boxes agrees"
    else:
        where = f"the first tensor that differs is '{first.tensor}', by {first.amount}"
    return (
        f"frame {_frame(batch)}: the network does not compute what the checkpoint does: its output "
        f"'{difference.tensor}' differs by {difference.amount}, expected {TOLERANCE:g} at most; "
        f"{where}"
    )


def _box_message(
    batch: BatchDict,
    comparison: BoxComparison,
    class_names: Sequence[str],
) -> str:
    phrases = []
    for what, boxes in (("missing", comparison.missing), ("unexpected", comparison.unexpected)):
        if len(boxes.scores):
            x, y = boxes.boxes[0, :2]
            phrases.append(
                f"{len(boxes.scores)} {what}, first a {class_names[boxes.labels[0] - 1]} at "
                f"x {x:.2f} y {y:.2f} m with the score {boxes.scores[0]:.4f}"
            )
    return (
        f"frame {_frame(batch)}: raw outputs agree, but the final boxes are not the checkpoint's: "
        f"{'; '.join(phrases)}"
    )


def _frame(batch: BatchDict) -> str:
    names = batch.get("frame_id")
    return str(names[0]) if names is not None and len(names) else "?"
