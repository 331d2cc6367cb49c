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
contents       a frame as teacher and students see it

page               the sections in their order, of ``box_section`` and the parts below
node_parts         a term by its nodes; ``node_pictures`` draws them
feature_parts      a term by its features; ``feature_pictures`` draws them
box_pictures       the boxes of both students
draw, words        what the pictures and the texts share
"""
