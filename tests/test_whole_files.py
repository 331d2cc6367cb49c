"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pcdet_distill.errors import UserError
from pcdet_distill.whole_files import whole_file


def test_the_old_file_stands_until_the_new_one_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "numbers.txt"
    path.write_text("old")
    with whole_file(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
        assert partial.parent == path.parent
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_alone(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "numbers.txt"
    path.write_text("old")
    with pytest.raises(error), whole_file(path) as partial:
        partial.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_name_of_the_unfinished_file_can_be_given(tmp_path: Path) -> None:
    with whole_file(tmp_path / "numbers.txt", "numbers.txt.part") as partial:
        assert partial == tmp_path / "numbers.txt.part"
        partial.write_text("new")


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "numbers.txt"
    with pytest.raises(OSError) as caught, whole_file(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(path)


def test_an_error_about_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, whole_file(tmp_path / "numbers.txt"):
        (tmp_path / "missing.txt").read_text()
    assert caught.value.filename == str(tmp_path / "missing.txt")


def test_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "numbers.txt"
    os.mkfifo(pipe)
    with pytest.raises(UserError, match=r"numbers\.txt: a device or a pipe"), whole_file(pipe):
        pytest.fail("nothing may be written")
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]
