"""Parts of ``benchmarks/cuda.py``: cases, timing, OpenPCDet as the reference, and the page."""
