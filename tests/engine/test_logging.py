"""What a run tells: the line, the records, the averages, and no file before its time."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import pytest
import torch
import yaml
from easydict import EasyDict

from pcdet_distill.engine.logging import (
    MetricWriter,
    check_writable,
    create_logger,
    duration_text,
    make_folder,
    open_log_file,
    rate_text,
    value_text,
    write_config,
)
from pcdet_distill.engine.logging.progress import Progress, check_finite
from pcdet_distill.errors import ConfigError


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (72, "1:12"), (3599.6, "1:00:00"), (7272, "2:01:12")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_numbers_as_text() -> None:
    assert [rate_text(lr) for lr in (0.0021, 3e-8, 1.0)] == ["2.1e-3", "3.0e-8", "1.0e0"]
    assert [value_text(value) for value in (1.4159, 0.03123, 134.2, 0.0)] == [
        "1.42",
        "0.0312",
        "134",
        "0.00",
    ]


def lines_of(
    progress: Progress, caplog: pytest.LogCaptureFixture, losses: list[float], first: int = 0
) -> list[str]:
    with caplog.at_level(logging.INFO):
        batches = progress.watch(range(first, len(losses)), epoch=2, first=first)
        for it, loss in zip(range(20 + first + 1, 100), (losses[k] for k in batches)):
            values = {"loss": torch.tensor(loss), "distill": loss / 2, "loc": 7.0}
            progress.step(it, 0.0021, values, ["loss", "distill"])
    return [record.getMessage() for record in caplog.records]


def test_one_line_per_interval_with_averages(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    writer = MetricWriter(tmp_path / "metrics.jsonl", tmp_path / "tb")
    progress = Progress(logging.getLogger("lines"), writer, epochs=80, per_epoch=10, interval=4)
    lines = lines_of(progress, caplog, [1.0, 2.0, 3.0, 4.0, 5.0, 5.0, 5.0, 5.0, 8.0, 9.0])
    assert len(lines) == 3
    assert re.fullmatch(
        r"epoch 3/80  it 4/10  loss 2\.50  distill 1\.25  lr 2\.1e-3  data \d+ ms  step \d+ ms  "
        r"eta \d+:\d\d",
        lines[0],
    )
    assert lines[1].startswith("epoch 3/80  it 8/10  loss 5.00")
    assert lines[2].startswith("epoch 3/80  it 10/10  loss 8.50")
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [record["it"] for record in records] == [24, 28, 30]
    assert records[0].keys() == {
        "kind",
        "it",
        "epoch",
        "loss",
        "distill",
        "loc",
        "lr",
        "data_ms",
        "step_ms",
    }
    assert records[2]["loss"] == 8.5 and records[2]["loc"] == 7.0
    writer.close()


def test_bar_only_writes_no_lines(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    writer = MetricWriter(tmp_path / "metrics.jsonl", tmp_path / "tb")
    progress = Progress(
        logging.getLogger("bar"), writer, epochs=80, per_epoch=2, interval=1, bar_only=True
    )
    assert lines_of(progress, caplog, [1.0, 2.0]) == []
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_loss_that_is_no_number_stops() -> None:
    check_finite(1.0, 5)
    for loss in (float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="before iteration 5.*OPTIMIZATION.LR"):
            check_finite(loss, 5)


def test_records_after_the_resumed_iteration_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        '{"kind": "a", "it": 10}\n{"kind": "a", "it": 20}\n{"kind": "a", "it": 30}\n{"kind": "a'
    )
    MetricWriter(path, tmp_path / "tb", keep_until=20).close()
    assert [json.loads(line)["it"] for line in path.read_text().splitlines()] == [10, 20]


def test_log_file_gets_what_was_said_before_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = create_logger()
    logger.info("before")
    logger.debug("only in the file")
    open_log_file(logger, tmp_path / "run.log")
    logger.info("after")
    assert [line.split()[-1] for line in (tmp_path / "run.log").read_text().splitlines()] == [
        "before",
        "file",
        "after",
    ]
    said = capsys.readouterr().out
    assert "before" in said and "after" in said and "only in the file" not in said


def test_other_ranks_are_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    create_logger(is_main=False).info("hello")
    assert capsys.readouterr().out == ""


def test_resolved_config_can_be_read_again(tmp_path: Path) -> None:
    config = EasyDict(
        CLASS_NAMES=["Car"],
        MODEL={"NAME": "PointPillar"},
        TAG="toy",
        ROOT_DIR=tmp_path,
        CONFIG_FILE="x",
        EXP_GROUP_PATH="toys",
    )
    write_config(config, tmp_path / "toy.yaml")
    assert yaml.safe_load((tmp_path / "toy.yaml").read_text()) == {
        "CLASS_NAMES": ["Car"],
        "MODEL": {"NAME": "PointPillar"},
    }


def test_unwritable_folders_are_named(tmp_path: Path) -> None:
    (tmp_path / "output").write_text("a file where a folder should be")
    for use in (check_writable, make_folder):
        with pytest.raises(ConfigError, match=r"output folder '.*run' cannot be written"):
            use(tmp_path / "output" / "toys" / "run")
    check_writable(tmp_path / "new" / "folder")
    assert not (tmp_path / "new").exists()


def test_a_file_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").mkdir()
    writer = MetricWriter.__new__(MetricWriter)
    writer.path = tmp_path / "metrics.jsonl"
    with pytest.raises(ConfigError, match=r"metrics\.jsonl: cannot be written"):
        writer.write("train", 1, {})
    with pytest.raises(ConfigError, match=r"metrics\.jsonl: cannot be written"):
        MetricWriter(tmp_path / "metrics.jsonl", tmp_path / "tb")
    (tmp_path / "file").write_text("where a folder should be")
    with pytest.raises(ConfigError, match="file: cannot be written"):
        MetricWriter(tmp_path / "new.jsonl", tmp_path / "file")
