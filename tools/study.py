"""Compare students and recipes on the same data, with several seeds: ``python tools/study.py cfgs/study/NAME.yaml``"""

from __future__ import annotations

from pathlib import Path

from pcdet_distill.errors import exit_on_user_error
from pcdet_distill.study import main

if __name__ == "__main__":
    exit_on_user_error(main)(Path(__file__).resolve().parents[1])
