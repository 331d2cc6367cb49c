"""pcdet_distill: OpenPCDet's detectors as their users know them, plus a removable distiller."""

__version__ = "0.2.0"
