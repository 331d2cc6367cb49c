"""KITTI: its files, its infos, its dataset."""
