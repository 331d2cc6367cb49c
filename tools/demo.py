"""Detect objects in your own point files: ``python tools/demo.py --cfg_file CFG --ckpt CKPT --data_path scan.bin``"""

from __future__ import annotations

import argparse

from pcdet_distill.demo import add_demo_arguments, run_demo
from pcdet_distill.errors import exit_on_user_error


@exit_on_user_error
def main() -> None:
    """Read the command line and detect."""
    run_demo(add_demo_arguments(argparse.ArgumentParser(description=__doc__)).parse_args())


if __name__ == "__main__":
    main()
