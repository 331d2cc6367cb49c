"""A cached teacher: its predictions are computed once for each frame, stored, and moved.

``identity`` says of which teacher and data a cache is, ``build`` computes it, ``paint`` puts the
moved predictions onto the student's anchors or cells, ``input`` gives them to the losses, and
``teacher`` takes the place of the teacher that runs.
"""

from .input import use_stored_predictions
from .teacher import CachedTeacher, cached_teacher

__all__ = ["CachedTeacher", "cached_teacher", "use_stored_predictions"]
