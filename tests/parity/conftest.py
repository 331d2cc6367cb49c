"""Tests that run once for every matching file of the golden folder.

``@pytest.mark.golden("kitti_eval/*.json")`` gives them a ``golden_file``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from nuscenes_recording import STEM, Recording


@pytest.fixture(scope="session")
def golden_dir(request: pytest.FixtureRequest) -> Path:
    """The folder named by --golden."""
    return Path(request.config.getoption("--golden")).resolve()


@pytest.fixture(scope="session")
def nuscenes_dir(request: pytest.FixtureRequest, golden_dir: Path) -> Path:
    """The folder named by --golden_nuscenes, or by --golden, or golden_nuscenes beside it."""
    given = request.config.getoption("--golden_nuscenes")
    if given is not None:
        return Path(given).resolve()
    if (golden_dir / f"{STEM}.npz").is_file():
        return golden_dir
    folder = golden_dir.parent / "golden_nuscenes"
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist; name a folder by --golden_nuscenes")
    return folder


@pytest.fixture
def recorded(request: pytest.FixtureRequest, nuscenes_dir: Path) -> Iterator[Recording]:
    """The numbers that the test's marker names; all of them must be read."""
    marker = request.node.get_closest_marker("recorded")
    parameters = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    recording = Recording(nuscenes_dir, [name.format(**parameters) for name in marker.args])
    yield recording
    assert recording.unread() == []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("golden")
    if marker is None:
        return
    root = Path(metafunc.config.getoption("--golden")).resolve()
    files = sorted(root.glob(marker.args[0]))
    metafunc.parametrize(
        "golden_file", files, ids=[file.relative_to(root).as_posix() for file in files]
    )
