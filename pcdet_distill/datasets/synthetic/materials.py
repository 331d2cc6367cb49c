"""What the simulated surfaces do with a laser pulse: how bright, how porous and how rough each material is.

The numbers are chosen by eye and by ``benchmarks/synthetic_realism.py``; they follow no published table.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np


@dataclass(frozen=True)
class Material:
    """One surface. Defaults describe a plain, solid, dull one."""

    albedo: float  # share of the light that comes back, before the object's own shade
    opacity: float = 1.0  # probability that a ray that meets the surface stops there
    density_per_m: float = (
        0.0  # > 0: no surface but a cloud (leaves); mean free path is 1 / density
    )
    roughness_m: float = 0.0  # added to the range noise
    specular: float = (
        0.0  # share of returns lost at grazing angles: polished surfaces mirror the pulse away
    )
    interior: float = (
        0.0  # probability that a ray let through stops inside the object (seats behind a window)
    )


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
ALBEDO, OPACITY, DENSITY, ROUGHNESS, SPECULAR, INTERIOR = range(6)


def material_table() -> np.ndarray:
    """All materials as rows ``(M, 6)``: columns ALBEDO, OPACITY, DENSITY, ROUGHNESS, SPECULAR, INTERIOR."""
    return np.array([astuple(material) for material in MATERIALS.values()], dtype=np.float64)
