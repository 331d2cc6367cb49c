"""Simulate, train a teacher and two students, compare them: see docs/quickstart.md."""

from __future__ import annotations

from pathlib import Path

from pcdet_distill.cli import quickstart

if __name__ == "__main__":
    quickstart(root=Path(__file__).resolve().parents[1])
