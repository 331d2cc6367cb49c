"""The slots of a detector as nodes of a graph, one file for each kind of module.

A writer takes the graph, the module of the checkpoint and the names of its inputs. It reads the
module's own weights and settings and returns the name of its output. Tensors that the checkpoint's
modules compute too are named as their taps (``models/taps.py``): the check compares them by name.
"""
