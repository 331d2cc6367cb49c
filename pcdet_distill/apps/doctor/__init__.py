"""The doctor: what is wrong with data and yaml, told before the training."""

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
