"""Moved to ``pcdet_distill.config``."""

from .moved import forward_names

__getattr__ = forward_names(__name__, "pcdet_distill.config", ["lookup", "nearest", "required"])
