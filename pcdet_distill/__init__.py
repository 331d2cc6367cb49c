"""pcdet_distill: OpenPCDet's detectors as their users know them, plus a removable distiller.

What happens in a training:

config        yaml files, every key of them checked
datasets      frames become items, items become batches
models        detectors, slot by slot; ``taps`` records their features
distill       a teacher, the losses between it and its student, the student's init
engine        the training loop (``engine/loop.py``), checkpoints, evaluation
evaluation    average precision by the rules of KITTI, nuScenes, Argoverse 2, or without a camera
ops           operators in PyTorch; ``ops/accelerated`` has their fast versions

What is done with a checkpoint:

inference     a yaml and a checkpoint to boxes
export        ONNX, int8, files for programs of other projects
report        pages that open in a browser
visualize     pictures from above
integrations  distillation inside OpenPCDet's own train.py

Programs and their parts:

cli           the subcommands of ``pcdet-distill``; ``commands`` names them in messages
apps          quickstart, studies, data preparation, the doctor, reports, the viewer
demo          ``pcdet-distill demo``
measure       parameters, multiply-adds and latency of a detector
parallel      independent parts of a work, on the cores of a machine or on a Ray cluster

What all of them use: ``errors``, ``types``, ``checkpoint``, ``structures`` (what a file must hold),
``whole_files``, ``file_locks``, ``processes``, ``seeds``, ``texts`` and ``extras`` (optional
packages).
``moved`` and ``moved_modules`` keep the names of version 0.1.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec

__version__ = "0.2.0"


class OldModuleFinder:
    """Python asks it for modules of which it finds no file: those of version 0.1 have moved."""

    @staticmethod
    def find_spec(fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The spec of an old module of this package, None for every other one."""
        if not fullname.startswith(f"{__name__}."):
            return None
        from .moved_modules import find_old_module

        return find_old_module(fullname)


sys.meta_path.append(OldModuleFinder)
