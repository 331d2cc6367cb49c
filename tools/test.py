"""Evaluate a detector: ``test.py --cfg_file cfgs/...yaml --ckpt checkpoint_epoch_80.pth``"""

from __future__ import annotations

from pcdet_distill.cli import test

if __name__ == "__main__":
    test()
