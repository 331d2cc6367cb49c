"""``pcdet-distill report --distill``: one page that shows what distillation does in a few frames.

command        the flags, and the way from a yaml to the page
sides          the student without and with distillation, each beside the same teacher
frames         which frames are shown
terms          the nodes of one term, as the loss itself chooses and weighs them
spaces         features as colours on the teacher's components, and distances to the teacher
boxes          which boxes one student has and the other has not
draw, *_picture  matplotlib
page           the sections and what they say
"""

from .command import add_distill_arguments, run_distill_pictures

__all__ = ["add_distill_arguments", "run_distill_pictures"]
