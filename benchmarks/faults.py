"""``python benchmarks/faults.py`` is ``python -m benchmarks.faults``, from any folder."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # As the first entry the folder of this file would hide the packages of the same names.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from benchmarks.faults.__main__ import main

    main()
