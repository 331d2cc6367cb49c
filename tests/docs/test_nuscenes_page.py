"""The commands of docs/nuscenes.md have flags that exist, and name yaml files that exist."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from pathlib import Path

import pytest

from pcdet_distill.apps.create_data import add_data_arguments
from pcdet_distill.config import find_file, load_config
from pcdet_distill.datasets.nuscenes.splits import scenes_of_splits
from pcdet_distill.engine.evaluate import add_test_arguments
from pcdet_distill.engine.train import add_train_arguments

PARSERS = {"data": add_data_arguments, "train": add_train_arguments, "test": add_test_arguments}


@pytest.fixture(scope="module")
def page(repo: Path) -> str:
    return (repo / "docs" / "nuscenes.md").read_text()


def commands(page: str) -> list[list[str]]:
    """The words of every pcdet-distill command, without the program's name."""
    blocks = re.findall(r"```bash\n(.*?)```", page, flags=re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    split = [shlex.split(line, comments=True) for line in lines]
    return [words[1:] for words in split if words and words[0] == "pcdet-distill"]


def test_flags_and_yaml_files_exist(page: str, repo: Path) -> None:
    found = [words for words in commands(page) if words[0] in PARSERS]
    assert {"data", "train", "test"} <= {words[0] for words in found}
    for subcommand, *words in found:
        parser = PARSERS[subcommand](argparse.ArgumentParser())
        arguments = vars(parser.parse_args(words))
        file = arguments.get("cfg_file") or arguments.get("cfg")
        if file is not None:
            load_config(find_file(file, near=repo))


def test_the_example_of_own_splits_is_read(page: str, tmp_path: Path) -> None:
    (example,) = re.findall(r"```json\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "splits.json").write_text(example)
    splits = scenes_of_splits(tmp_path, "v1.0-yard")
    assert {name: sorted(scenes) for name, scenes in splits.items()} == json.loads(example)


def test_the_keys_of_the_page_are_keys_of_the_yaml(page: str, repo: Path) -> None:
    config = load_config(repo / "cfgs" / "dataset_configs" / "nuscenes_dataset.yaml")
    for key in ("MAX_SWEEPS", "BALANCED_RESAMPLING", "DATA_PROCESSOR"):
        assert key in page
        assert key in config
