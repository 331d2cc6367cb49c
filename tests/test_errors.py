"""What a user can cause ends in one sentence and an exit code."""

from __future__ import annotations

import errno
import os

import pytest

from pcdet_distill.errors import DISK_ERRORS, EXIT_USER_ERROR, exit_on_user_error


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
