"""Train a detector, plain or distilled, and evaluate it: ``train.py --cfg_file cfgs/...yaml``

The run is ``pcdet_distill/engine/train.py``, its loop ``Trainer.run`` in ``engine/loop.py``.
"""

from __future__ import annotations

from pcdet_distill.cli import train

if __name__ == "__main__":
    train()
