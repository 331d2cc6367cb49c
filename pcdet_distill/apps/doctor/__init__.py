"""The doctor: what is wrong with data and yaml, told before the training.

command       the flags, and the way from a yaml to findings
case          what every check reads; ``frames`` reads the frames, ``single_frame`` makes a batch
checks        one file a check, and the table of all of them
finding       what a check returns; ``text``, ``page`` and ``pictures`` show it, ``fix`` mends yaml

What several checks use:

anchor_match  how well anchors overlap boxes
changes       whether boxes would hold more points if they were turned, moved or resized
detections    what a trained model finds beside the labels
geometry      the known mistakes in the geometry of labels
grid          the grid of voxels, and a range that fits the boxes
"""

from .case import Case
from .checks import CHECKS, run_checks
from .command import add_doctor_arguments, read_case, run_doctor
from .finding import Finding, Severity

__all__ = [
    "CHECKS",
    "Case",
    "Finding",
    "Severity",
    "add_doctor_arguments",
    "read_case",
    "run_checks",
    "run_doctor",
]
