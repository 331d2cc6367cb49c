"""Detect objects in point files: ``demo.py --cfg_file CFG --ckpt CKPT --data_path scan.bin``"""

from __future__ import annotations

from pcdet_distill.cli import demo

if __name__ == "__main__":
    demo()
