"""What every evaluation returns: a text, a table, numbers for programs, one primary number.

The engine reads only this protocol, so a benchmark of your own needs no change in the engine.
``docs/extending.md`` shows one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable


class PrimaryMetric(NamedTuple):
    """The one number that ranks two detectors on a benchmark; larger is better."""

    name: str
    value: float


@runtime_checkable
class EvaluationResult(Protocol):
    """Result of evaluating the detections of one split."""

    @property
    def text(self) -> str:
        """The full report, as OpenPCDet prints it."""

    @property
    def ap_dict(self) -> Mapping[str, float]:
        """Numbers under the keys of OpenPCDet's result dict, such as ``Car_3d/moderate_R40``."""

    @property
    def primary(self) -> PrimaryMetric | None:
        """The number that ranks detectors; None where the benchmark names none."""

    def text_table(self) -> str:
        """A short table for people; empty where ``text`` is short enough."""

    def metrics(self) -> Mapping[str, object]:
        """All numbers as nested dicts that json can write."""


@dataclass(frozen=True)
class PlainResult:
    """An ``EvaluationResult`` of a text and a dict, which OpenPCDet's ``evaluation`` returns.

    Attributes:
        text: the full report.
        ap_dict: its numbers.
        primary: the number that ranks detectors.
    """

    text: str
    ap_dict: Mapping[str, float]
    primary: PrimaryMetric | None = None

    def text_table(self) -> str:
        """Empty: the text is all there is."""
        return ""

    def metrics(self) -> Mapping[str, object]:
        """The numbers of ``ap_dict``."""
        return dict(self.ap_dict)
