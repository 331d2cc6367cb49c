"""nuScenes: info files from the official tables, frames of several sweeps, boxes with velocities.

nuscenes_dataset  infos and sweeps to items
folder            where clouds, tables and info files are
splits            which scenes are for training and validation
poses             rotations and translations of sensors and vehicle as matrices
labels            annotations as boxes with velocities
infos             one info dict a key frame, as OpenPCDet writes it
sweeps            the points of several sweeps in the coordinates of the newest one
database          labelled objects with their points, for gt_sampling
create            all files that training needs, from the official tables
resampling        frames of rare classes come more often (CBGS)
"""
