"""The log of a run: the screen, and a file that is opened late.

Until the input has been checked nothing is written. The lines logged before that are kept for the
file.
"""

from __future__ import annotations

import logging
import sys
from logging.handlers import MemoryHandler
from pathlib import Path

from tqdm import tqdm

from .folders import writing

LOGGER_NAME = "pcdet_distill"
NEVER = logging.CRITICAL + 1  # no record has this level


class _ScreenHandler(logging.Handler):
    """Prints lines without breaking a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stdout)
        sys.stdout.flush()


def create_logger(is_main: bool = True) -> logging.Logger:
    """The logger of a run. The screen shows INFO, the log file also DEBUG.

    Processes other than the main one show errors only.
    """
    logger = logging.getLogger(LOGGER_NAME)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.propagate = False
    logger.setLevel(logging.DEBUG if is_main else logging.ERROR)
    screen = _ScreenHandler(logging.INFO)
    screen.setFormatter(logging.Formatter("%(asctime)s  %(message)s", datefmt="%H:%M:%S"))
    logger.addHandler(screen)
    if is_main:
        kept_lines = MemoryHandler(capacity=10**6, flushLevel=NEVER, flushOnClose=False)
        logger.addHandler(kept_lines)
    return logger


def open_log_file(logger: logging.Logger, path: Path) -> None:
    """Write to ``path`` from now on, beginning with all lines so far."""
    with writing(path):
        file_handler = logging.FileHandler(path)
    file_handler.setFormatter(logging.Formatter("%(asctime)s  %(levelname)5s  %(message)s"))
    for handler in list(logger.handlers):
        if isinstance(handler, MemoryHandler):
            handler.setTarget(file_handler)
            handler.flush()
            logger.removeHandler(handler)
    logger.addHandler(file_handler)
