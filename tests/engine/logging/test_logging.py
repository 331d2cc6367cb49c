"""Log lines, records and averages; and no file is written before its time."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
import yaml
from easydict import EasyDict

from pcdet_distill.engine.logging import (
    MetricWriter,
    Progress,
    check_writable,
    create_logger,
    duration_text,
    make_folder,
    open_log_file,
    progress,
    rate_text,
    value_text,
    write_config,
)
from pcdet_distill.engine.logging.curves import Curves
from pcdet_distill.errors import ConfigError

# A line of epoch 3 of 80, with its iteration in the epoch.
LINE = (
    r"epoch 3/80  it {it}  loss {loss}  distill {distill}  lr 2\.1e-3  "
    r"data \d+ ms  step \d+ ms  eta \d+:\d\d"
)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (72, "1:12"), (3599.6, "1:00:00"), (7272, "2:01:12")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(("rate", "text"), [(0.0021, "2.1e-3"), (3e-8, "3.0e-8"), (1.0, "1.0e0")])
def test_learning_rate_as_text(rate: float, text: str) -> None:
    assert rate_text(rate) == text


@pytest.mark.parametrize(
    ("value", "text"), [(1.4159, "1.42"), (0.03123, "0.0312"), (134.2, "134"), (0.0, "0.00")]
)
def test_loss_as_text(value: float, text: str) -> None:
    assert value_text(value) == text


class FakeClock:
    """Stands for the module ``time``; it moves only when a test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def perf_counter(self) -> float:
        """The time on this clock."""
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """The clock of ``Progress``."""
    clock = FakeClock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def count_steps(
    shown_progress: Progress,
    losses: Sequence[float],
    *,
    clock: FakeClock | None = None,
    step_seconds: float = 0.0,
) -> None:
    """Report the losses of epoch 3."""
    first_iteration = 2 * shown_progress.per_epoch + 1
    batches = shown_progress.watch(losses, epoch=2, first=0)
    for iteration, loss in enumerate(batches, start=first_iteration):
        if clock is not None:
            clock.seconds += step_seconds
        values = {"loss": torch.tensor(loss), "distill": loss / 2, "loc": 7.0}
        shown_progress.step(iteration, 0.0021, values, ["loss", "distill"])


def read_records(folder: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[MetricWriter]:
    """A writer of metrics.jsonl and tb/."""
    writer = MetricWriter(tmp_path / "metrics.jsonl", tmp_path / "tb")
    yield writer
    writer.close()


def test_one_line_per_interval_with_averages(
    caplog: pytest.LogCaptureFixture, writer: MetricWriter, tmp_path: Path
) -> None:
    logger = logging.getLogger("lines")
    with caplog.at_level(logging.INFO):
        count_steps(
            Progress(logger, writer, epochs=80, per_epoch=10, interval=4, gpu_stat=False),
            [1.0, 2.0, 3.0, 4.0, 5.0, 5.0, 5.0, 5.0, 8.0, 9.0],
        )
    at_once, first, second, third = caplog.messages
    assert at_once.startswith("epoch 3/80  it 1/10  loss 1.00")
    assert re.fullmatch(LINE.format(it="4/10", loss=r"3\.00", distill=r"1\.50"), first)
    assert second.startswith("epoch 3/80  it 8/10  loss 5.00")
    assert third.startswith("epoch 3/80  it 10/10  loss 8.50")
    records = read_records(tmp_path)
    iterations = [record["it"] for record in records]
    assert iterations == [21, 24, 28, 30]
    names = ["kind", "it", "epoch", "loss", "distill", "loc", "lr", "data_ms", "step_ms"]
    assert list(records[0]) == names
    assert records[3]["loss"] == 8.5
    assert records[3]["loc"] == 7.0


def test_slow_steps_are_logged_by_the_clock(
    caplog: pytest.LogCaptureFixture, clock: FakeClock
) -> None:
    """Steps of 3 s: the first line at once, the others every 30 s."""
    slow = Progress(logging.getLogger("slow"), None, epochs=80, per_epoch=100, interval=50)
    with caplog.at_level(logging.INFO):
        count_steps(slow, [1.0] * 25, clock=clock, step_seconds=3.0)
    places = [line.split()[3] for line in caplog.messages]
    assert places == ["1/100", "11/100", "21/100"]


def test_fast_steps_are_logged_by_their_number(
    caplog: pytest.LogCaptureFixture, clock: FakeClock
) -> None:
    fast = Progress(logging.getLogger("fast"), None, epochs=80, per_epoch=10, interval=4)
    with caplog.at_level(logging.INFO):
        count_steps(fast, [1.0] * 10, clock=clock, step_seconds=0.01)
    assert len(caplog.messages) == 4


def test_bar_only_writes_no_lines(
    caplog: pytest.LogCaptureFixture, writer: MetricWriter, tmp_path: Path
) -> None:
    bar = Progress(
        logging.getLogger("bar"), writer, epochs=80, per_epoch=2, interval=1, bar_only=True
    )
    with caplog.at_level(logging.INFO):
        count_steps(bar, [1.0, 2.0])
    assert caplog.messages == []
    assert len(read_records(tmp_path)) == 2


# --- Records and curves after a resumption


def test_records_after_the_resumed_iteration_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = ['{"kind": "a", "it": 10}', '{"kind": "a", "it": 20}', '{"kind": "a", "it": 30}']
    # A kill has cut off the last line.
    cut_off = '{"kind": "a'
    path.write_text("\n".join([*lines, cut_off]))
    MetricWriter(path, tmp_path / "tb", keep_until=20).close()
    assert [record["it"] for record in read_records(tmp_path)] == [10, 20]


def test_a_full_disk_costs_no_records_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = '{"kind": "a", "it": 10}\n{"kind": "a", "it": 20}\n'
    path.write_text(lines)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(ConfigError, match="metrics.jsonl: cannot be written"):
        MetricWriter(path, tmp_path / "tb", keep_until=10)
    assert path.read_text() == lines


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_curves_on_a_full_disk_are_one_sentence(tmp_path: Path) -> None:
    curves = Curves(tmp_path)
    message = "cannot be written .No space left on device"
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(ConfigError, match=message):
        curves._writer._py_recordio_writer._writer = full
        for step in range(100):
            curves.add({"loss": 1.0}, step)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_log_on_a_full_disk_is_given_up(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "train.log"
    log.symlink_to("/dev/full")
    logger = create_logger()
    open_log_file(logger, log)
    for line in ("first", "second"):
        logger.info(line)
    said, errors = capfd.readouterr()
    assert said.count("cannot be written (No space left on device); no log file") == 1
    assert "second" in said
    assert errors == ""


def visible_points(folder: Path) -> dict[int, float]:
    """The points of the curve ``loss`` that TensorBoard shows: step -> value.

    The start of a session with step s hides all earlier points from step s on.
    """
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    points: dict[int, float] = {}
    for path in sorted(folder.glob("events*")):
        for record in read_tfrecords(path):
            event = Event.FromString(record)
            if event.session_log.status == SessionLog.START:
                points = {step: value for step, value in points.items() if step < event.step}
            for value in event.summary.value:
                if value.tag == "loss":
                    points[event.step] = value.simple_value
    return points


def read_tfrecords(path: Path) -> Iterator[bytes]:
    """The records of an event file: each is its length, 4 bytes, the data, 4 bytes."""
    content = path.read_bytes()
    place = 0
    while place < len(content):
        (length,) = struct.unpack_from("<Q", content, place)
        # The length has 8 bytes and a checksum of 4; the data has a checksum, too.
        start = place + 8 + 4
        end = start + length
        yield content[start:end]
        place = end + 4


def test_tensorboard_keeps_the_point_of_the_resumed_iteration(tmp_path: Path) -> None:
    """Records at 10, 20, 30; the training is resumed from the checkpoint at 20."""
    path = tmp_path / "metrics.jsonl"
    first = MetricWriter(path, tmp_path / "tb")
    for it in (10, 20, 30):
        first.write("train", it, {"loss": 1.0}, {"loss": 1.0})
    first.close()
    (event_file,) = (tmp_path / "tb").glob("events*")
    # Files are read by name, which holds the second of their creation: make the first one older.
    event_file.rename(event_file.with_name("events.out.tfevents.1000000000.first"))
    resumed = MetricWriter(path, tmp_path / "tb", keep_until=20)
    resumed.write("train", 25, {"loss": 2.0}, {"loss": 2.0})
    resumed.close()
    assert visible_points(tmp_path / "tb") == {10: 1.0, 20: 1.0, 25: 2.0}
    assert [record["it"] for record in read_records(tmp_path)] == [10, 20, 25]


# --- Log files and configs


def test_log_file_begins_with_the_lines_before_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = create_logger()
    logger.info("before")
    logger.debug("only in the file")
    open_log_file(logger, tmp_path / "run.log")
    logger.info("after")
    lines = (tmp_path / "run.log").read_text().splitlines()
    last_words = [line.split()[-1] for line in lines]
    assert last_words == ["before", "file", "after"]
    screen = capsys.readouterr().out
    assert "before" in screen
    assert "after" in screen
    assert "only in the file" not in screen


def test_other_ranks_are_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    create_logger(is_main=False).info("hello")
    assert capsys.readouterr().out == ""


def test_resolved_config_can_be_read_again(tmp_path: Path) -> None:
    content = {"CLASS_NAMES": ["Car"], "MODEL": {"NAME": "PointPillar"}}
    added = {"TAG": "toy", "ROOT_DIR": tmp_path, "CONFIG_FILE": "x", "EXP_GROUP_PATH": "toys"}
    path = tmp_path / "toy.yaml"
    write_config(EasyDict({**content, **added}), path)
    assert yaml.safe_load(path.read_text()) == content


# --- Folders and files that cannot be written


@pytest.mark.parametrize("use", [check_writable, make_folder])
def test_an_unwritable_folder_is_named(use: Callable[[Path], object], tmp_path: Path) -> None:
    (tmp_path / "output").write_text("a file where a folder should be")
    with pytest.raises(ConfigError, match=r"output folder '.*run' cannot be written"):
        use(tmp_path / "output" / "toys" / "run")


def test_checking_a_folder_creates_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "folder")
    assert not (tmp_path / "new").exists()


def test_a_file_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    writer = MetricWriter(path, tmp_path / "tb")
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigError, match=r"metrics\.jsonl: cannot be written"):
        writer.write("train", 1, {})
    with pytest.raises(ConfigError, match=r"metrics\.jsonl: cannot be written"):
        MetricWriter(path, tmp_path / "tb")


def test_a_folder_of_curves_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("where a folder should be")
    with pytest.raises(ConfigError, match="file: cannot be written"):
        MetricWriter(tmp_path / "new.jsonl", tmp_path / "file")
