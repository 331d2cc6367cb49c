"""The log of a run: the screen, and a file that is opened late.

Until the input has proved good nothing is written, and the lines said before are kept for the file.
"""

from __future__ import annotations

import logging
import sys
from logging.handlers import MemoryHandler
from pathlib import Path

from tqdm import tqdm

from .folders import writing

LOGGER_NAME = "pcdet_distill"


class _ScreenHandler(logging.Handler):
    """Lines on the screen that do not break a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stdout)
        sys.stdout.flush()


def create_logger(is_main: bool = True) -> logging.Logger:
    """The logger of a run: the screen shows INFO, the file (later) also DEBUG; other ranks show errors only."""
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
        logger.addHandler(
            MemoryHandler(capacity=10**6, flushLevel=logging.CRITICAL + 1, flushOnClose=False)
        )
    return logger


def open_log_file(logger: logging.Logger, path: Path) -> None:
    """Write to ``path`` from now on, beginning with everything said so far."""
    with writing(path):
        target = logging.FileHandler(path)
    target.setFormatter(logging.Formatter("%(asctime)s  %(levelname)5s  %(message)s"))
    for handler in list(logger.handlers):
        if isinstance(handler, MemoryHandler):
            handler.setTarget(target)
            handler.flush()
            logger.removeHandler(handler)
    logger.addHandler(target)
