"""Geometry and point-cloud operators: public functions that run on any device; fast twins live in ``accelerated``."""
