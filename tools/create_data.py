"""Prepare data: ``create_data.py kitti CFG``, ``... synthetic --out DIR --frames N``"""

from __future__ import annotations

from pcdet_distill.cli import data

if __name__ == "__main__":
    data()
