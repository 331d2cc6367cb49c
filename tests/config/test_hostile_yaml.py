"""Yaml files that would take all memory or time, or that Python cannot read: one sentence each."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pcdet_distill.config import load_config
from pcdet_distill.config.override import apply_overrides
from pcdet_distill.config.schema import EXPERIMENT
from pcdet_distill.config.yaml_files import read_yaml
from pcdet_distill.errors import ConfigError


def refused(tmp_path: Path, text: str, words: str) -> None:
    """The file is an error that names its line, within a second."""
    file = tmp_path / "a.yaml"
    file.write_text(text)
    begin = time.process_time()
    with pytest.raises(ConfigError, match=words) as caught:
        read_yaml(file)
    assert time.process_time() - begin < 5
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


def billion_laughs(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]")
    return "\n".join(lines)


def test_aliases_of_aliases_are_counted(tmp_path):
    refused(tmp_path, billion_laughs(9), "in line [56]: more than 100000 values")


def test_merged_blocks_are_counted(tmp_path):
    lines = ["b0: &b0 {x: 1}"]
    for level in range(1, 9):
        merged = ", ".join([f"*b{level - 1}"] * 9)
        lines.append(f"b{level}: &b{level} {{<<: [{merged}]}}")
    refused(tmp_path, "\n".join(lines), "more than 100000 values")


def test_a_few_aliases_are_fine(tmp_path):
    (tmp_path / "a.yaml").write_text("sizes: &sizes [3.9, 1.6, 1.5]\nother: *sizes\n")
    assert read_yaml(tmp_path / "a.yaml")["other"] == [3.9, 1.6, 1.5]


def test_a_file_that_was_read_before_is_read_as_it_stands(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("sizes: [1, 2]\n")
    read_yaml(file)["sizes"].append(3)
    assert read_yaml(file) == {"sizes": [1, 2]}
    file.write_text("sizes: [4, 5]\n")
    assert read_yaml(file) == {"sizes": [4, 5]}


def test_an_alias_within_itself(tmp_path):
    refused(tmp_path, "a: &a [1, *a]", r"in line 1: '\*a' stands within itself")


@pytest.mark.parametrize(
    "text", ["a: " + "[" * 5000 + "]" * 5000, "a: " + "{b: " * 3000 + "}" * 3000]
)
def test_deep_blocks(tmp_path, text):
    refused(tmp_path, text, "more than 40 blocks within each other")


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "7" * 5000,
        "a: 1" + "0" * 400,
        "a: !!int abc",
        "a: 2024-13-45",
        "a: !!float x",
        "a: !!timestamp x",
        "a: !!bool x",
    ],
)
def test_values_that_python_cannot_read(tmp_path, text):
    refused(tmp_path, text, "in line 1: ")


def test_a_whole_number_that_no_float_holds(tmp_path):
    refused(tmp_path, "a: -1" + "0" * 400, "in line 1: a whole number of 1329 bits")
    (tmp_path / "a.yaml").write_text(f"a: {2**63 - 1}\n")
    assert read_yaml(tmp_path / "a.yaml") == {"a": 2**63 - 1}


def test_a_long_value(tmp_path):
    refused(tmp_path, "a: " + "x" * 20_000, "a value of 20000 characters")


def test_a_large_file(tmp_path):
    refused(tmp_path, "a: 1\n" + "# x\n" * 600_000, "bytes, more than")


def test_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(ConfigError):
        load_config(tmp_path / "pipe.yaml")


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "y/" * 3000])
def test_names_that_no_file_has(tmp_path, name):
    with pytest.raises(ConfigError, match="is not the path of any file"):
        load_config(name)
    (tmp_path / "a.yaml").write_text("_BASE_CONFIG_: " + repr(name.replace("\0", "")) + "\n")
    with pytest.raises(ConfigError):
        load_config(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("MODEL.NAME", "-" * 9000 + "1"),
        ("MODEL.NAME", "(" * 5000),
        ("MODEL.NAME", "{[]:1}"),
        ("CLASS_NAMES.²", "Car"),
        ("CLASS_NAMES.99999999999999999999", "Car"),
        ("OPTIMIZATION.LR", "9" * 20_000),
    ],
)
def test_values_of_the_command_line(path, text):
    """They stay text where they are no literal, or are refused; never another error."""
    config = {"CLASS_NAMES": ["Car"], "MODEL": {"NAME": "x"}, "OPTIMIZATION": {"LR": 0.1}}
    try:
        apply_overrides(config, [path, text], EXPERIMENT, {})
    except ConfigError as error:
        assert "\n" not in str(error)
    else:
        assert config["MODEL"]["NAME"] == text
