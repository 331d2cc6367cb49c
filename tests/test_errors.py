"""What a user can cause ends in one sentence and an exit code."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pcdet_distill.errors import DISK_ERRORS, EXIT_USER_ERROR, exit_on_user_error, first_line


def fail_with(code: int) -> None:
    raise OSError(code, os.strerror(code), "/data/a.bin")


@pytest.mark.parametrize("code", DISK_ERRORS)
def test_a_broken_disk_is_one_sentence(capsys: pytest.CaptureFixture[str], code: int) -> None:
    with pytest.raises(SystemExit) as end:
        exit_on_user_error(fail_with)(code)
    assert end.value.code == EXIT_USER_ERROR
    expected = f"error: /data/a.bin: cannot be read or written ({os.strerror(code)})\n"
    assert capsys.readouterr().err == expected


def test_another_error_of_the_system_is_a_bug() -> None:
    with pytest.raises(FileNotFoundError):
        exit_on_user_error(fail_with)(errno.ENOENT)


def test_a_path_that_is_too_long_is_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def ask(path: Path) -> None:
        path.mkdir()

    with pytest.raises(SystemExit) as end:
        exit_on_user_error(ask)(tmp_path / ("a" * 5000))
    assert end.value.code == EXIT_USER_ERROR
    text = capsys.readouterr().err
    assert text.startswith(f"error: {tmp_path}") and text.count("\n") == 1
    assert os.strerror(errno.ENAMETOOLONG) in text
    assert len(text) < 500


def test_the_first_line_of_an_error_is_short() -> None:
    """numpy puts the head of a damaged archive into its message."""
    assert first_line(ValueError("no array.\nmore")) == "no array"
    assert first_line(ValueError()) == "ValueError"
    line = first_line(ValueError("x" * 5000))
    assert len(line) == 300
    assert line.endswith("x...")
