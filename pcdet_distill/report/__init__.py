"""Reports that open in a browser: one file, no network, light and dark.

page        the page: headings, tables, figures, one style
plots       lines and bars as SVG
bev         a frame from above as SVG: points, boxes with class and score
comparison  the quickstart's table of a teacher and two students, as text, markdown and JSON
"""

from ..moved import forward_names

# The comparison was this module in version 0.1.
__getattr__ = forward_names(__name__, f"{__name__}.comparison")
