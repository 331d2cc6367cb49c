"""What happens to the points and boxes of a training item, by OpenPCDet's names."""

from .data_augmentor import AUGMENTORS, DataAugmentor
from .database_sampler import DataBaseSampler

__all__ = ["AUGMENTORS", "DataAugmentor", "DataBaseSampler"]
