"""Geometry and point-cloud operators that run on any device; fast twins are in ``accelerated``."""
