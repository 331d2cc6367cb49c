"""``pcdet-distill report --distill``: one page that shows what distillation does in a few frames.

arguments      the flags
command        the way from a yaml and checkpoints to the page
sides          the student without and with distillation, each beside the same teacher
frames         which frames are shown
terms          the nodes of one term, as the loss itself chooses and weighs them
features       the features of one term in one frame: colours, distances, numbers
fitting        means, components and linear maps from frames that are not shown
spaces         features as colours on the teacher's components, and distances to the teacher
boxes          which boxes one student has and the other has not
draw, *_pictures  matplotlib
shown          a frame as teacher and students see it
page, *_section, *_parts  the sections and what they say
"""
