"""Compare students on the same data over several seeds: ``study.py cfgs/study/NAME.yaml``"""

from __future__ import annotations

from pathlib import Path

from pcdet_distill.cli import study

if __name__ == "__main__":
    study(root=Path(__file__).resolve().parents[1])
