"""Install pcdet_distill: pure Python, nothing is compiled."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(
    r'__version__ = "([^"]+)"', (ROOT / "pcdet_distill" / "__init__.py").read_text()
).group(1)

setup(
    name="pcdet_distill",
    version=VERSION,
    description="Distil LiDAR 3D object detectors: PointDistiller and OpenPCDet's world, rebuilt clean",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["pcdet_distill", "pcdet_distill.*"]),
    python_requires=">=3.10",
    install_requires=["torch>=2.1", "numpy", "numba", "pyyaml", "easydict", "tensorboardX", "tqdm"],
    extras_require={
        "cu118": ["spconv-cu118"],
        "cu120": ["spconv-cu120"],
        "cu126": ["spconv-cu126"],
        "viz": ["matplotlib"],
        "export": ["onnx", "onnxruntime"],
        "safetensors": ["safetensors"],
        "dev": ["pytest", "hypothesis", "ruff", "mypy", "safetensors"],
    },
)
