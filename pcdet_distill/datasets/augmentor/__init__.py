"""What happens to the points and boxes of a training item, by OpenPCDet's names."""

from .data_augmentor import AUGMENTORS, ON_DEVICE, DataAugmentor
from .database_sampler import DataBaseSampler
from .object_database import HOW_TO_MAKE_FILES

__all__ = ["AUGMENTORS", "HOW_TO_MAKE_FILES", "ON_DEVICE", "DataAugmentor", "DataBaseSampler"]
