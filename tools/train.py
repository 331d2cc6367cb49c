"""Train a detector, plain or distilled, and evaluate it: ``train.py --cfg_file cfgs/...yaml``"""

from __future__ import annotations

from pcdet_distill.cli import train

if __name__ == "__main__":
    train()
