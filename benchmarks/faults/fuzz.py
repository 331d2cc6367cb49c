"""Claim: no damaged file ends in a traceback, a hang over 10 s, or more than 1 GB of memory.

Run ``python -m benchmarks.faults.fuzz``. Good files of every format are damaged by a seed and read
in a worker process, which is watched. Each finding is printed with its kind of file and its seed;
``--only "KITTI infos" --seed 123 --inputs 1`` reads that one again and shows the traceback.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import torch

from pcdet_distill.errors import StoppedBySignal, UserError

from .corpus import make_corpus
from .hostile import HOSTILE, RAN, SECRET, SECRET_CONTENT
from .targets import ACCEPTED, REFUSED, TARGETS, Target

INPUTS = 10_000
LIMIT_S = 10.0  # of a processor, so that other work on the machine does not count
WAIT_S = 60.0  # for a process that sleeps, as for the other end of a pipe
LIMIT_BYTES = 2**30
LOOK_EVERY_S = 0.05
MAX_SENTENCE = 1500  # characters; long paths and lists of names have their place in a sentence
TRACEBACK = "traceback"
HANG = "hang"
MEMORY = "memory"
MADE_TO_HARM = "files made to do harm"
OUTCOMES = (ACCEPTED, REFUSED, TRACEBACK, HANG, MEMORY)


@dataclass(frozen=True)
class Result:
    """What came of one input.

    Attributes:
        outcome: one of OUTCOMES.
        said: the sentence of a refusal, or the end of a traceback.
        seconds: how long it took.
        peak_bytes: the most memory that the worker had.
    """

    outcome: str
    said: str = ""
    seconds: float = 0.0
    peak_bytes: int = 0


@dataclass
class Tally:
    """All results.

    Attributes:
        counts: of each outcome, by target.
        findings: target, seed and result of what must not happen.
    """

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    findings: list[tuple[str, int, Result]] = field(default_factory=list)
    slowest_s: float = 0.0
    largest_bytes: int = 0

    def add(self, target: str, seed: int, result: Result) -> None:
        """Count a result."""
        self.counts.setdefault(target, Counter())[result.outcome] += 1
        self.slowest_s = max(self.slowest_s, result.seconds)
        self.largest_bytes = max(self.largest_bytes, result.peak_bytes)
        if result.outcome not in (ACCEPTED, REFUSED):
            self.findings.append((target, seed, result))

    def table(self) -> str:
        """A row for each target, in Markdown."""
        lines = [f"| input | {' | '.join(OUTCOMES)} |", "|---|" + "---:|" * len(OUTCOMES)]
        total: Counter[str] = Counter()
        for target, counts in self.counts.items():
            total += counts
            lines.append(_row(target, counts))
        lines.append(_row("all", total))
        return "\n".join(lines)


def _row(name: str, counts: Counter[str]) -> str:
    return f"| {name} | {' | '.join(str(counts[outcome]) for outcome in OUTCOMES)} |"


# --- the worker -----------------------------------------------------------------------------------


class Worker:
    """A copy of this process with a corpus of its own, which reads one input after the other."""

    def __init__(self, corpus: Path) -> None:
        self.corpus = corpus
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None

    def read(self, target: str, seed: int | None) -> Result:
        """Damage a file of the target by the seed, and read it; without one a hostile file."""
        if self._process is None:
            self._start()
        assert self._connection is not None and self._process is not None
        self._connection.send((target, seed))
        begin = time.monotonic()
        begin_used = _processor_seconds(self._process.pid)
        begin_queued = _queued_seconds(self._process.pid)
        while not self._connection.poll(LOOK_EVERY_S):
            size = _resident_bytes(self._process.pid)
            used = _processor_seconds(self._process.pid) - begin_used
            queued = _queued_seconds(self._process.pid) - begin_queued
            slept = time.monotonic() - begin - used - queued
            if not self._process.is_alive():
                return self._end(Result(TRACEBACK, "the process died"))
            if size > LIMIT_BYTES:
                return self._end(Result(MEMORY, f"{size >> 20} MB", used, size))
            if used > LIMIT_S or slept > WAIT_S:
                return self._end(Result(HANG, f"{used:.0f} s of work", used, size))
        try:
            outcome, said, peak = self._connection.recv()
        except EOFError:
            return self._end(Result(TRACEBACK, "the process died"))
        seconds = _processor_seconds(self._process.pid) - begin_used
        if peak > LIMIT_BYTES:
            return self._end(Result(MEMORY, f"{peak >> 20} MB", seconds, peak))
        return Result(outcome, said, seconds, peak)

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_work, args=(self.corpus, other))
        self._process.start()
        other.close()

    def _end(self, result: Result) -> Result:
        """Kill the process; the next input gets a new one."""
        self.close()
        return result

    def close(self) -> None:
        """End the process, and the data workers that it may have started."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(int(self._process.pid or -1), signal.SIGKILL)
            self._process.join()
        self._process = None


def _work(corpus: Path, connection: Connection) -> None:
    """Read what is asked for, until the other end closes."""
    os.setsid()
    warnings.simplefilter("ignore")
    sys.stdin = open(os.devnull)  # noqa: SIM115 (as long as the process)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "corpus"
        shutil.copytree(corpus, root)
        os.chdir(root)
        while True:
            try:
                target, seed = connection.recv()
            except EOFError:
                return
            _forget_peak()
            with open(os.devnull, "w") as null, redirect_stdout(null), redirect_stderr(null):
                if seed is None:
                    outcome, said = read_hostile(root, target)
                else:
                    outcome, said = read_damaged(root, TARGETS[target], seed)
            connection.send((outcome, said, _peak_bytes()))


def read_hostile(root: Path, name: str) -> tuple[str, str]:
    """The outcome of a hostile file; the good one is there again afterwards."""
    hostile = HOSTILE[name]
    file = root / hostile.file
    good = file.read_bytes()
    secret = root.parent / SECRET
    secret.write_bytes(SECRET_CONTENT)
    try:
        hostile.write(file)
        outcome = _read(TARGETS[hostile.target], root, file)
    finally:
        if file.is_dir():
            file.rmdir()
        file.unlink(missing_ok=True)
        file.write_bytes(good)
    if (root.parent / RAN).exists():
        (root.parent / RAN).unlink()
        return TRACEBACK, "code in the file was run"
    if secret.read_bytes() != SECRET_CONTENT:
        return TRACEBACK, "a file outside was written"
    return outcome


def read_damaged(root: Path, target: Target, seed: int) -> tuple[str, str]:
    """The outcome of one damaged file, which is whole again afterwards."""
    files = files_of(root, target)
    random = np.random.default_rng(max(seed, 0))
    # Negative seeds are the good files themselves, from the last one on.
    file = files[seed % len(files)] if seed < 0 else files[random.integers(len(files))]
    good = file.read_bytes()
    if seed >= 0:
        file.write_bytes(target.damage(good, random))
    try:
        return _read(target, root, file)
    finally:
        file.write_bytes(good)


def _read(target: Target, root: Path, file: Path) -> tuple[str, str]:
    try:
        target.read(root, file)
    except (UserError, StoppedBySignal) as error:
        return _judged(str(error))
    except BaseException:  # noqa: BLE001 (everything else is a finding)
        return TRACEBACK, traceback.format_exc()
    return ACCEPTED, ""


def files_of(root: Path, target: Target) -> list[Path]:
    """The good files of a target."""
    return sorted(path for pattern in target.files for path in root.glob(pattern) if path.is_file())


def _judged(said: str) -> tuple[str, str]:
    """A refusal is one sentence; anything longer is as bad as a traceback."""
    if "\n" in said or not said or len(said) > MAX_SENTENCE:
        return TRACEBACK, f"not one sentence: {said[:2000]}"
    return REFUSED, said


def _processor_seconds(pid: int | None) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _queued_seconds(pid: int | None) -> float:
    """How long a process was ready to run, but others had the processor."""
    try:
        fields = Path(f"/proc/{pid}/schedstat").read_text().split()
    except OSError:
        return 0.0
    return int(fields[1]) / 1e9


def _resident_bytes(pid: int | None) -> int:
    return _status_bytes(f"/proc/{pid}/status", "VmRSS:")


def _peak_bytes() -> int:
    return _status_bytes("/proc/self/status", "VmHWM:")


def _status_bytes(file: str, name: str) -> int:
    try:
        lines = Path(file).read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(name)), 0)


def _forget_peak() -> None:
    """Let VmHWM begin again from the present size."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


# --- the command ----------------------------------------------------------------------------------


def draws(inputs: int, seed: int, names: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Target and seed of each input; a target's inputs are in proportion to its share."""
    shares = np.array([TARGETS[name].share for name in names])
    counts = np.maximum(1, np.round(inputs * shares / shares.sum())).astype(int)
    for name, count in zip(names, counts):
        for number in range(count):
            yield name, seed + number


def results(
    inputs: int, seed: int, names: Sequence[str], hostile: bool = True
) -> Iterator[tuple[str, int, Result]]:
    """Read so many damaged files, and the hostile ones: kind, seed and result of each."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        make_corpus(corpus)
        worker = Worker(corpus)
        try:
            _check_good_files(worker, corpus, names)
            for target, number in draws(inputs, seed, names):
                yield target, number, worker.read(target, number)
            for name in HOSTILE if hostile else ():
                yield MADE_TO_HARM, 0, _not_accepted(worker.read(name, None), name)
        finally:
            worker.close()


def fuzz(inputs: int, seed: int, names: Sequence[str], hostile: bool = True) -> Tally:
    """Count the results; findings are printed as they come."""
    tally = Tally()
    for target, number, result in results(inputs, seed, names, hostile):
        tally.add(target, number, result)
        if result.outcome not in (ACCEPTED, REFUSED):
            print(f"--- {target}, seed {number}: {result.outcome}\n{result.said}", flush=True)
    return tally


def _not_accepted(result: Result, name: str) -> Result:
    """The result of a hostile file, which nothing may accept."""
    if result.outcome == REFUSED:
        return result
    outcome = TRACEBACK if result.outcome == ACCEPTED else result.outcome
    said = f"{name}: {result.outcome} {result.said}"
    return Result(outcome, said, result.seconds, result.peak_bytes)


def _check_good_files(worker: Worker, corpus: Path, names: Sequence[str]) -> None:
    """What is not damaged must be accepted, else the refusals mean nothing."""
    for name in names:
        for number in range(len(files_of(corpus, TARGETS[name]))):
            result = worker.read(name, -1 - number)
            if result.outcome not in TARGETS[name].good:
                raise RuntimeError(f"{name}: good file {number} from the end: {result.said}")


def make_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--inputs", type=int, default=INPUTS, help="damaged files to read")
    parser.add_argument("--seed", type=int, default=0, help="the seed of each target's first input")
    parser.add_argument("--only", action="append", choices=list(TARGETS), help="a kind of file")
    parser.add_argument("--json", type=Path, help="also write the counts and findings here")
    return parser


def main(arguments: Sequence[str] | None = None) -> Tally:
    """Read the damaged files, print the table, and exit with 1 when there are findings."""
    args = make_parser().parse_args(arguments)
    torch.set_num_threads(1)
    tally = fuzz(args.inputs, args.seed, args.only or list(TARGETS), not args.only)
    print(tally.table())
    print(f"slowest {tally.slowest_s:.1f} s, largest {tally.largest_bytes >> 20} MB")
    if args.json:
        findings = [[target, seed, asdict(result)] for target, seed, result in tally.findings]
        counts = {target: dict(counter) for target, counter in tally.counts.items()}
        args.json.write_text(json.dumps({"counts": counts, "findings": findings}, indent=1) + "\n")
    return tally


if __name__ == "__main__":
    sys.exit(1 if main().findings else 0)
