"""Fast versions of the plain operators. A test compares each with its plain version.

Kernels of numba for the CPU: ``box_kernels``, ``norm_kernels``, ``paint_kernels``,
``point_kernels``, ``rulebook_kernels`` (by a ``hash_table``), ``vector_kernels``,
``voxel_kernels``. On CUDA: ``triton``, and ``spconv_adapter`` where spconv is installed.
"""
