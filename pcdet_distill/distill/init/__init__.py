"""Initialises the student from its teacher by structured pruning, before training.

The student must be the teacher with fewer channels. ``init_student`` keeps the teacher's most
useful channels in each layer (SLICE). RECONSTRUCT also fits new weights for them by least squares,
to make up for the channels that are gone.
"""

from .options import InitOptions
from .student import StudentInit, init_student

__all__ = ["InitOptions", "StudentInit", "init_student"]
