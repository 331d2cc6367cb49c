"""Geometry and point-cloud operators for any device; fast versions are in ``accelerated``."""
