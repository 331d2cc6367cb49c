"""Sensors of the simulator: which points come back from a scene.

sensor_options    yaml files of sensors
lidar             the rays of a sensor, and the points that come back
raycast           rays into a scene; ``intersect`` meets the pieces
weather           rain, dust and failing beams
scan              the sweeps of a frame; ``ego_motion`` where the car was in each
camera            the camera, and the calibration that describes it
"""
