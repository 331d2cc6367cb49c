"""Moved to ``pcdet_distill.apps.study``; imports from here go on working for one version."""

from .moved import forward_names

__getattr__ = forward_names(__name__, "pcdet_distill.apps.study")
