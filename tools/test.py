"""Evaluate a detector: ``python tools/test.py --cfg_file cfgs/...yaml --ckpt checkpoint_epoch_80.pth``"""

from __future__ import annotations

import argparse

from pcdet_distill.engine.evaluate import add_test_arguments, run_testing
from pcdet_distill.errors import exit_on_user_error


@exit_on_user_error
def main() -> None:
    """Read the command line and evaluate."""
    run_testing(add_test_arguments(argparse.ArgumentParser(description=__doc__)).parse_args())


if __name__ == "__main__":
    main()
