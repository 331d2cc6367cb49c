"""Names from files never lead out of the folder they belong to."""

from __future__ import annotations

import pytest

from pcdet_distill.config.paths import inside
from pcdet_distill.errors import DataError


@pytest.mark.parametrize(
    "name", ["../a", "/etc/passwd", "x/../../a", "", ".", "a\0b", "..", "x/..", "link/a"]
)
def test_names_that_lead_out_are_refused(tmp_path, name):
    root = tmp_path / "root"
    (root / "x").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (root / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="infos.pkl: .* is not the name of a file inside"):
        inside(root, name, "infos.pkl")


@pytest.mark.parametrize("name", ["a.bin", "x/a.bin", "x/../a.bin", "not_there_yet/a.txt"])
def test_names_inside_are_kept_as_they_are(tmp_path, name):
    root = tmp_path / "root"
    (root / "x").mkdir(parents=True)
    assert inside(root, name, "infos.pkl") == root / name


def test_the_folder_itself_may_be_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "real")
    assert inside(tmp_path / "data", "a.bin", "x") == tmp_path / "data" / "a.bin"


def test_a_link_to_a_file_of_the_same_folder(tmp_path):
    (tmp_path / "a.bin").touch()
    (tmp_path / "b.bin").symlink_to(tmp_path / "a.bin")
    assert inside(tmp_path, "b.bin", "x").name == "b.bin"
