"""What happens to the points of an item after augmentation, by OpenPCDet's names."""

from .data_processor import PROCESSORS, DataProcessor
from .point_feature_encoder import ENCODINGS, PointFeatureEncoder
from .selection import SELECTIONS, CloudColumns

__all__ = [
    "ENCODINGS",
    "PROCESSORS",
    "SELECTIONS",
    "CloudColumns",
    "DataProcessor",
    "PointFeatureEncoder",
]
