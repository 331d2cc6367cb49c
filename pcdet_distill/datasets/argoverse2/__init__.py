"""Argoverse 2's sensor data set: sweeps and labels from its feather files, in the vehicle's frame.

argo2_dataset   infos and sweeps to items
folder          logs, their sweeps, and which split they are in
tables          annotations and poses from feather files
infos           info files and the database of objects
sweeps          the points of a frame
detections      detections as the benchmark's server reads them
"""
