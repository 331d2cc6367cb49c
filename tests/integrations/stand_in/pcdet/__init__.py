"""A stand-in for OpenPCDet v0.6: the interface that it documents, around layers of our own, in plain PyTorch.

It has what integrations/openpcdet.py may rely on and nothing else: how detectors, datasets, checkpoints and configs
are used, not what they compute.
"""

__version__ = "0.6.0+standin"
