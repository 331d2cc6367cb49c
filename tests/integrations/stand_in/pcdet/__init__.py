"""A stand-in for OpenPCDet v0.6: the interface that it documents, around simple layers.

It has only what integrations/openpcdet.py may use: how detectors, datasets, checkpoints and configs
are called, not what they compute.
"""

__version__ = "0.6.0+standin"
