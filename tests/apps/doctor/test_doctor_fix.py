"""--fix: a yaml of what differs, which extends the examined one."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pcdet_distill.apps.doctor.finding import Finding, Severity
from pcdet_distill.apps.doctor.fix import (
    changed_config,
    collect_changes,
    fixing_block,
    write_fix,
    yaml_line,
)
from pcdet_distill.config import load_config
from pcdet_distill.errors import ConfigError

YAML = "cfgs/synthetic/pointpillar_teacher.yaml"
RANGE = "DATA_CONFIG.POINT_CLOUD_RANGE"
VOXEL = "DATA_CONFIG.DATA_PROCESSOR.2.VOXEL_SIZE"


def test_a_change_in_a_list_writes_the_whole_list() -> None:
    cfg = load_config(YAML)
    block = fixing_block(cfg, {VOXEL: [0.1, 0.1, 4.0]})
    steps = block["DATA_CONFIG"]["DATA_PROCESSOR"]
    assert [step["NAME"] for step in steps][0] == "mask_points_and_boxes_outside_range"
    assert steps[2]["VOXEL_SIZE"] == [0.1, 0.1, 4.0]
    assert (
        steps[2]["MAX_POINTS_PER_VOXEL"] == cfg.DATA_CONFIG.DATA_PROCESSOR[2].MAX_POINTS_PER_VOXEL
    )


def test_the_original_config_stays_as_it_is() -> None:
    cfg = load_config(YAML)
    original = list(cfg.DATA_CONFIG.POINT_CLOUD_RANGE)
    changed = changed_config(cfg, {RANGE: [0, -1, -1, 1, 1, 1]})
    assert changed.DATA_CONFIG.POINT_CLOUD_RANGE == [0, -1, -1, 1, 1, 1]
    assert list(cfg.DATA_CONFIG.POINT_CLOUD_RANGE) == original


def test_the_written_file_loads_as_the_changed_config(tmp_path: Path) -> None:
    cfg = load_config(YAML)
    changes = {RANGE: [0.0, -16.0, -3.0, 48.0, 16.0, 1.0], VOXEL: [0.25, 0.25, 4.0]}
    write_fix(cfg, changes, tmp_path / "fixed.yaml")
    fixed = load_config(tmp_path / "fixed.yaml")
    expected = changed_config(cfg, changes)
    assert fixed.DATA_CONFIG == expected.DATA_CONFIG
    assert fixed.MODEL == expected.MODEL
    written = yaml.safe_load((tmp_path / "fixed.yaml").read_text())
    assert set(written) == {"_BASE_CONFIG_", "DATA_CONFIG"}


def test_the_examined_file_is_not_overwritten() -> None:
    cfg = load_config(YAML)
    with pytest.raises(ConfigError, match="is the file that is examined"):
        write_fix(cfg, {RANGE: [0, 0, 0, 1, 1, 1]}, Path(cfg.CONFIG_FILE))


def test_of_two_changes_of_one_key_the_first_counts() -> None:
    first = Finding("a", Severity.ERROR, "", "", changes={RANGE: 1})
    second = Finding("b", Severity.WARNING, "", "", changes={RANGE: 2, VOXEL: 3})
    assert collect_changes([first, second]) == {RANGE: 1, VOXEL: 3}


def test_a_line_of_yaml_reads_back() -> None:
    line = yaml_line(RANGE, [0.0, -40.0, 1])
    assert yaml.safe_load(line) == {RANGE: [0.0, -40.0, 1]}
    assert yaml.safe_load(yaml_line("KEY", "text")) == {"KEY": "text"}
