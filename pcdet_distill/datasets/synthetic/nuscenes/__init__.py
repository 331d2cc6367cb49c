"""Simulated drives, written as the official tables of nuScenes.

shapes     templates that KITTI's streets do not have: bus, trailer, excavator, barrier, cone
kinds      what is labelled: category, size, attributes
actors     labelled objects and the vehicle itself, with their places over time
street     a random street with everything on it
turn       one full turn of the LiDAR from the vehicle
drive      one scene: its sweeps, and the labels of its key frames
rows       the rows of the official tables
writer     a folder of scenes, made by any number of processes
"""
