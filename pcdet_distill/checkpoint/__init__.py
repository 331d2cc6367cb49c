"""Checkpoints in OpenPCDet's format: written whole, read without running any code in them.

``files`` writes and reads them, ``limits`` looks at a file before anything is unpickled,
``contents`` checks what was read by what ``declared`` says, ``checksum`` tells a damaged file from
a whole one, and ``model_state`` copies the weights into a model. ``policy`` says what a run
accepts, ``words`` has phrases of the messages.
"""

from __future__ import annotations

from .files import SUFFIXES, load_checkpoint, optimizer_state, save_checkpoint
from .model_state import LoadReport, load_model_state
from .policy import ReadingPolicy, reading

__all__ = [
    "SUFFIXES",
    "LoadReport",
    "ReadingPolicy",
    "load_checkpoint",
    "load_model_state",
    "optimizer_state",
    "reading",
    "save_checkpoint",
]
