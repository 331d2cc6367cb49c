"""Train a detector, plain or distilled, and evaluate it: ``python tools/train.py --cfg_file cfgs/...yaml``"""

from __future__ import annotations

import argparse

from pcdet_distill.engine.train import add_train_arguments, run_training
from pcdet_distill.errors import exit_on_user_error


@exit_on_user_error
def main() -> None:
    """Read the command line and train."""
    run_training(add_train_arguments(argparse.ArgumentParser(description=__doc__)).parse_args())


if __name__ == "__main__":
    main()
