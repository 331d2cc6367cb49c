"""Argoverse 2's sensor data set: sweeps and labels from its feather files, in the vehicle's frame.

folder      logs, their sweeps, and which split they are in
tables      annotations and poses from feather files
infos       info files and the database of objects
sweeps      the points of a frame
"""
