"""The log of a run: the screen, and a file that is opened late.

Until the input has been checked nothing is written. The lines logged before that are kept for the
file.
"""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
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


class _FileHandler(logging.FileHandler):
    """The log file. When its disk is full the run goes on with the screen alone, and says so."""

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        logger = logging.getLogger(LOGGER_NAME)
        logger.removeHandler(self)
        logger.warning(f"{self.baseFilename}: cannot be written ({error.strerror}); no log file")

    def close(self) -> None:
        with suppress(OSError):  # what could not be written has been reported
            super().close()


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
        file_handler = _FileHandler(path)
    file_handler.setFormatter(logging.Formatter("%(asctime)s  %(levelname)5s  %(message)s"))
    for handler in list(logger.handlers):
        if isinstance(handler, MemoryHandler):
            handler.setTarget(file_handler)
            handler.flush()
            logger.removeHandler(handler)
    logger.addHandler(file_handler)
