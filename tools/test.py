"""Evaluate a detector: ``test.py --cfg_file cfgs/...yaml --ckpt checkpoint_epoch_80.pth``"""

from __future__ import annotations

import needs_package  # noqa: F401  (before anything of the package)

from pcdet_distill.cli import test

if __name__ == "__main__":
    test()
