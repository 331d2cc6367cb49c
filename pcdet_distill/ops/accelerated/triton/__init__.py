"""Triton kernels: the fast versions of the operators on CUDA.

One file a group of operators. PyTorch's CUDA builds bring Triton with them, and nothing is compiled
at install. ``ops.dispatch`` imports these files when an operator first needs them. So the library
works without Triton. A test compares each kernel with its plain version; without a GPU it runs
through Triton's interpreter (``TRITON_INTERPRET=1``).

Every launch passes ``EXACT``: a product and a sum stay two roundings, as in PyTorch. Otherwise
equal distances would become unequal, and other points would be chosen.
"""

from __future__ import annotations

EXACT = {"enable_fp_fusion": False}
