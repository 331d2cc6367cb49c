"""KITTI: its files, its infos, its dataset.

kitti_dataset   infos and point files to items
kitti_infos     makes the info files and the object database
folder          the files of one half of the folder; ``splits`` draws the split files
calibration     from LiDAR to camera to image; ``camera_boxes`` moves boxes
object3d        one line of a label file
road_planes     the ground of each frame, where there is no file of it
predictions     detections in KITTI's format; ``result_files`` reads them back
"""
