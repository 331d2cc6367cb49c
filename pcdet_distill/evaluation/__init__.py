"""Evaluation of detections against ground truth, one package per benchmark.

result        what every evaluation returns
few_objects   a warning beside figures from few objects
kitti         average precision of KITTI, in the camera's coordinates
lidar         average precision in LiDAR coordinates: any classes, no camera
nuscenes      mAP, five errors and NDS
argoverse2    average precision and composite detection score
"""
