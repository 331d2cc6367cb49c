"""The sections of a page: each makes HTML from one or several models, or nothing.

overview   the number that ranks, facts, warnings
precision  tables of AP, precision over recall, AP by distance and by number of points
frames     the frames with most errors, or with the largest difference between two models
training   losses by term, the adapters of a distillation, the cost
setup      command and yaml
"""
