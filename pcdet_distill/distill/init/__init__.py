"""Initialises the student from its teacher by structured pruning, before training.

The student must be the teacher with fewer channels. ``init_student`` keeps the teacher's most
useful channels in each layer (SLICE). RECONSTRUCT also fits new weights for them by least squares,
to make up for the channels that are gone.

    student       the whole way; ``options`` its keys
    topology      is the student the teacher with fewer channels?
    layers        the layers of a detector, and hooks on them
    channels      which channels each layer reads, found by ``codes``
    plan          which channels go together, and which stay
    calibration   places on a few frames at which layers are compared
    scores        how much each channel is missed; ``selection`` keeps the best
    weights       SLICE copies weights; ``norms`` measures the statistics of norms again
    reconstruct   RECONSTRUCT fits weights; ``patches`` writes any layer as a matrix
    proposals     the teacher's proposals for the second stage of a student
"""

from .options import InitOptions
from .student import StudentInit, init_student

__all__ = ["InitOptions", "StudentInit", "init_student"]
