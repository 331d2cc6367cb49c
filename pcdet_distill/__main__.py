"""``python -m pcdet_distill`` is the command ``pcdet-distill``."""

from .cli import main

if __name__ == "__main__":
    main(prog="python -m pcdet_distill")
