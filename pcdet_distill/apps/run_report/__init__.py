"""``pcdet-distill report RUN [OTHER]``: the page of a run again, or two runs side by side.

arguments  the flags
find       from a folder to the results in it
stored     a record from stored results, and frames of two runs
command    write the page
"""
