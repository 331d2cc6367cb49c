"""Geometry and point-cloud operators that run on any device; fast versions are in ``accelerated``."""
