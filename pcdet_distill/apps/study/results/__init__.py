"""The results of a study: from the outcomes of its runs to tables, a plot and pages.

write         everything that is written into the study's folder
table         the rows: mean and deviation over the seeds (``spread``), the gap closed
comparisons   which rows are compared: at equal epochs, at equal compute, with one part left out
shown         which differences count, seed by seed (``paired``); ``shown_text`` has their table
text          all tables for a terminal and as markdown
plot, page    the picture, and ``report.html``
publish       the page of a study in docs/study, with its ``results_csv``
"""
