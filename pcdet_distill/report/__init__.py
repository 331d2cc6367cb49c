"""Reports that open in a browser: one file, no network, light and dark.

page          the page: headings, tables, figures, one style
plots         lines and bars as SVG
bev           a frame from above as SVG: points, boxes with class and score
record        what a report is made from, stored beside the results of an evaluation
collect       from an evaluation to its record; ``figures`` and ``scenes`` make the parts
mean          the mean of several records, as of several seeds
training_log  losses and cost of a training, from metrics.jsonl
view          one or several models on a page; ``sections`` has its parts
run_page      the page of one evaluation, or of two side by side
viewer        point clouds in a browser; ``rerun_file`` the same for Rerun
comparison    the quickstart's table of a teacher and two students, as text, markdown and JSON
"""

from ..moved import forward_names

# The comparison was this module in version 0.1.
__getattr__ = forward_names(__name__, f"{__name__}.comparison")
