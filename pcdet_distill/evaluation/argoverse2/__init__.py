"""Argoverse 2's detection metric on the CPU: AP by the distance of centres, TP errors, CDS.

``argoverse2_eval(gt_annos, det_annos, class_names)`` returns an ``Argoverse2Result``.
"""

from .protocol import CATEGORIES, Argoverse2Protocol
from .result import Argoverse2Result
from .score import argoverse2_eval

__all__ = ["CATEGORIES", "Argoverse2Protocol", "Argoverse2Result", "argoverse2_eval"]
