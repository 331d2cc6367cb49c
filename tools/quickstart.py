"""Simulate, train a teacher, a student, and that student from its teacher; compare them: see docs/quickstart.md."""

from __future__ import annotations

from pathlib import Path

from pcdet_distill.errors import exit_on_user_error
from pcdet_distill.quickstart import main

if __name__ == "__main__":
    exit_on_user_error(main)(Path(__file__).resolve().parents[1])
