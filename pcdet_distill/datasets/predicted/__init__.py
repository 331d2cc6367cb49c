"""A teacher's stored predictions: read from files, put into items, moved with their scene."""

from .frame import FramePredictions
from .scene import PREDICTED, PredictedScene
from .store import LabelledFrame, PredictionStore, read_part, write_part

__all__ = [
    "PREDICTED",
    "FramePredictions",
    "LabelledFrame",
    "PredictedScene",
    "PredictionStore",
    "read_part",
    "write_part",
]
