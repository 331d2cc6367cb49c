"""Names from files never lead out of the folder they belong to."""

from __future__ import annotations

import pytest

from pcdet_distill.config import inside
from pcdet_distill.errors import DataError

OUTSIDE = [
    "../a",
    "/etc/passwd",
    "x/../../a",
    "x/../../root2/a",
    "",
    ".",
    "a\0b",
    "..",
    "x/..",
    "link.bin",
    "x/link.bin",
    "x/folder/a.bin",
]


@pytest.fixture
def root(tmp_path):
    """A folder with links that lead out of it, as a file and as a folder below a folder."""
    root = tmp_path / "root"
    (root / "x").mkdir(parents=True)
    (tmp_path / "root2").mkdir()
    secret = tmp_path / "root2" / "secret"
    secret.touch()
    (root / "link.bin").symlink_to(secret)
    (root / "x" / "link.bin").symlink_to(secret)
    (root / "x" / "folder").symlink_to(tmp_path / "root2")
    return root


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_that_lead_out_are_refused(root, name):
    with pytest.raises(DataError, match=r"infos\.pkl: .* is not the name of a file inside"):
        inside(root, name, "infos.pkl")


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_root_that_is_a_relative_path(root, name, monkeypatch):
    monkeypatch.chdir(root)
    with pytest.raises(DataError):
        inside(".", name, "infos.pkl")
    assert inside(".", "a.bin", "infos.pkl").name == "a.bin"


@pytest.mark.parametrize("name", ["a.bin", "x/a.bin", "x/../a.bin", "not_there_yet/a.txt"])
def test_names_inside(root, name):
    path = inside(root, name, "infos.pkl")
    assert path.is_relative_to(root)
    assert path.name in ("a.bin", "a.txt")
    assert ".." not in path.parts


def test_the_folder_itself_and_those_in_it_may_be_links(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "real").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "real")
    (tmp_path / "data" / "samples").symlink_to(tmp_path / "disk")
    for name in ("a.bin", "samples/a.bin", "samples/LIDAR_TOP/a.bin"):
        assert inside(tmp_path / "data", name, "x") == tmp_path / "data" / name


def test_a_link_to_a_file_of_the_same_folder(tmp_path):
    (tmp_path / "a.bin").touch()
    (tmp_path / "b.bin").symlink_to(tmp_path / "a.bin")
    assert inside(tmp_path, "b.bin", "x").name == "b.bin"


def test_a_long_name_is_cut(tmp_path):
    with pytest.raises(DataError) as caught:
        inside(tmp_path, "../" + "a" * 5000, "x")
    assert len(str(caught.value)) < 200 + len(str(tmp_path))
