"""The whole smoke run, killed and started again; and everything that the README links to."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pcdet_distill.apps.quickstart.plan import DATASETS, QuickstartPlan


@pytest.fixture
def checkout(tmp_path: Path, repo: Path) -> Path:
    """A copy of what the quickstart needs of the repository; data and output go there too."""
    for name in ("cfgs", "tools"):
        shutil.copytree(repo / name, tmp_path / name)
    return tmp_path


RUNS = [(name, detector) for name, data in DATASETS.items() for detector in data.detectors]


def start(checkout: Path, log: Path, dataset: str, detector: str) -> subprocess.Popen:
    """The quickstart as its script calls it, from a folder that is not the checkout."""
    command = [
        sys.executable,
        str(checkout / "tools" / "quickstart.py"),
        "--fast",
        "--device",
        "cpu",
    ]
    command += ["--dataset", dataset, "--detector", detector]
    return subprocess.Popen(
        command, cwd=checkout.parent, stdout=log.open("w"), stderr=subprocess.STDOUT
    )


@pytest.mark.slow
@pytest.mark.parametrize(("dataset", "detector"), RUNS)
def test_killed_and_started_again_it_ends_with_the_table(checkout, tmp_path, dataset, detector):
    log = tmp_path / "log.txt"
    plan = QuickstartPlan.small(checkout, detector, dataset=dataset)
    first = start(checkout, log, dataset, detector)
    student = (checkout / plan.checkpoint("student")).parents[1]
    end = time.monotonic() + 400
    while not list(student.glob("ckpt/checkpoint_epoch_1.pth")):
        assert first.poll() is None and time.monotonic() < end, log.read_text()
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.wait()

    assert start(checkout, log, dataset, detector).wait(timeout=400) == 0, log.read_text()
    output = log.read_text()
    assert "means nothing" in output
    assert output.count("complete already") == 3
    assert re.search(r"resumed from .*checkpoint_epoch_1\.pth", output) or "epoch 1/2" not in output
    report = json.loads((plan.output / "report.json").read_text())
    assert report["smoke"]
    assert report["val_frames"] == 16
    assert (
        report["student"]["parameters"]
        == report["distilled"]["parameters"]
        < report["teacher"]["parameters"]
    )

    assert start(checkout, log, dataset, detector).wait(timeout=60) == 0
    assert log.read_text().count("complete already") == 5


def target_exists(repo, link):
    """Whether a link's file is there, and the heading that follows its ``#``."""
    path, _, anchor = link.partition("#")
    headings = re.findall(r"^#+ (.*)$", (repo / path).read_text(), flags=re.M) if anchor else []
    anchors = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in headings]
    return (repo / path).exists() and (not anchor or anchor in anchors)


def test_everything_the_readme_names_exists(repo):
    text = (repo / "README.md").read_text()
    links = [link for link in re.findall(r"(?<!!)\[[^\]]*\]\(([^)]+)\)", text) if "://" not in link]
    named = re.findall(r"\b(?:cfgs|tools|docs)/[\w/.]+\.(?:yaml|py|sh|md)\b", text)
    missing = [path for path in {*links, *named} if not target_exists(repo, path)]
    assert not missing
    assert len(named) > 8
