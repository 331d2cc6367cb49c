"""Own data in OpenPCDet's layout of a custom data set: its files, its infos, its dataset."""
