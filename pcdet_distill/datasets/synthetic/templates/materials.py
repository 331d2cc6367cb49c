"""What the simulated surfaces do with a laser pulse: how bright, porous and rough each material is.

The numbers are chosen by eye and by ``benchmarks/synthetic_realism.py``; they come from no
published table.
"""

from __future__ import annotations

import functools
from dataclasses import astuple, dataclass

import numpy as np


@dataclass(frozen=True)
class Material:
    """One material. The defaults are those of a plain, solid, dull surface.

    Attributes:
        albedo: share of the light that comes back, before the shade of the object.
        opacity: probability that a ray stops on the surface.
        density_per_m: above 0 for leaves, a cloud without a surface; the mean free path is 1 /
            density.
        roughness_m: added to the range noise.
        specular: share of the pulses that are mirrored away at grazing angles.
        interior: probability that a ray that passed the surface stops inside, as on a seat behind a
            window.
    """

    albedo: float
    opacity: float = 1.0
    density_per_m: float = 0.0
    roughness_m: float = 0.0
    specular: float = 0.0
    interior: float = 0.0


MATERIALS: dict[str, Material] = {
    "asphalt": Material(0.30, roughness_m=0.006),
    "pavement": Material(0.34, roughness_m=0.008),
    "grass": Material(0.37, roughness_m=0.04),
    "paint": Material(0.34, specular=0.7),
    "glass": Material(0.10, opacity=0.30, specular=0.9, interior=0.25),
    "rubber": Material(0.08, roughness_m=0.01),
    "cloth": Material(0.38, roughness_m=0.012),
    "skin": Material(0.42),
    "metal": Material(0.38),
    "reflector": Material(0.95),
    "masonry": Material(0.36, roughness_m=0.012),
    "window": Material(0.12, opacity=0.25, specular=0.8),
    "foliage": Material(0.42, density_per_m=1.0),
    "hedge": Material(0.40, density_per_m=5.0),
    "bark": Material(0.32, roughness_m=0.015),
    "spokes": Material(0.30, opacity=0.30),
    "mesh": Material(0.30, opacity=0.30),
}
MATERIAL_INDEX: dict[str, int] = {name: index for index, name in enumerate(MATERIALS)}

# Columns of ``material_table``.
ALBEDO, OPACITY, DENSITY, ROUGHNESS, SPECULAR, INTERIOR = range(6)


@functools.lru_cache(maxsize=1)
def material_table() -> np.ndarray:
    """(M, 6) all materials: columns ALBEDO, OPACITY, DENSITY, ROUGHNESS, SPECULAR, INTERIOR."""
    return np.array([astuple(material) for material in MATERIALS.values()], dtype=np.float64)
