"""``pcdet-distill report RUN [OTHER]``: find the results, write the page."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...errors import ConfigError
from ...report.page import Html, write_page
from ...report.record import Record
from ...report.run_page import FILE, pair_page, run_page
from ...report.sections.frames import error_changes, most_changed
from ...report.training_log import TrainingLog, read_training_log
from ...report.view import View
from ..study.reopen import is_study_folder
from ..study.results.write import report_folder
from .arguments import COMPARISON
from .find import Results, find_results
from .stored import keep_record, model_numbers, scenes_of_both, stored_record

# The name of a run: its yaml, its tag unless that is "default", its epoch.
NAME = re.compile(r"(\S+)(?: \((.+)\))?, (epoch \S+)")


def run_report(args: argparse.Namespace) -> Path:
    """Write the page; returns its path."""
    if len(args.folders) > 2:
        raise ConfigError(f"report: {len(args.folders)} folders; expected one or two")
    studies = [folder for folder in args.folders if is_study_folder(Path(folder))]
    if studies:
        return _study_page(studies[0], args)
    both = [find_results(folder) for folder in args.folders]
    for results in both:
        others = f" ({results.num_others} other results in it)" if results.num_others else ""
        print(f"results: {results.folder}{others}")
    records = [_read(results, args) for results in both]
    if len(both) == 1:
        view = View(records[0].name, records[0], _training(both[0], records[0]))
        file = _output(args.out, both[0].folder / FILE, FILE)
        return _write(run_page(view), file)
    views = _two_views(both, records, args.names)
    listed = most_changed(error_changes(*views))
    scenes, reason = scenes_of_both(both, records, listed, args.cfg_file, args.set_cfgs)
    if reason:
        print(f"note: only frames that both reports hold are drawn: {reason}")
    return _write(pair_page(views, scenes), _output(args.out, Path(COMPARISON), COMPARISON))


def _study_page(folder: str, args: argparse.Namespace) -> Path:
    """The tables and the page of a study, from its folder."""
    if len(args.folders) > 1:
        raise ConfigError(
            f"{folder}: is a study, which has a page of its own; expected it alone, or two runs"
        )
    file = _output(args.out, Path(folder) / FILE, FILE)
    written = report_folder(Path(folder), file)
    if written is None:
        raise ConfigError(f"{file}: cannot be written")
    return written


def _write(html: Html, file: Path) -> Path:
    written = write_page(html, file)
    print(f"page: {written}")
    return written


def _read(results: Results, args: argparse.Namespace) -> Record:
    """The record of results; one that had to be made is kept."""
    record = stored_record(results, args.cfg_file, args.set_cfgs)
    if not record.facts:
        record = replace(record, facts=model_numbers(results))
        keep_record(record, results)
    return record


def _training(results: Results, record: Record) -> TrainingLog | None:
    return read_training_log(results.folder / record.training) if record.training else None


def _output(out: str | None, default: Path, name: str) -> Path:
    """The file of ``--out``, which may also be a folder."""
    if out is None:
        return default
    path = Path(out)
    return path / name if path.is_dir() or not path.suffix else path


def _two_views(
    both: Sequence[Results], records: Sequence[Record], names: Sequence[str] | None
) -> list[View]:
    """Both runs, with labels that differ."""
    labels = list(names) if names else shortest_names([record.name for record in records])
    if labels[0] == labels[1]:
        labels = _distinct([results.folder for results in both], labels[0])
    return [
        View(label, record, _training(results, record))
        for label, record, results in zip(labels, records, both)
    ]


def shortest_names(names: Sequence[str]) -> list[str]:
    """Of two runs the part of their names that tells them apart: yaml, tag or epoch.

    Labels stand in every table and legend, so a whole name, as ``second (seed0), epoch 80``, would
    fill the page.
    """
    found = [NAME.fullmatch(name) for name in names]
    if not all(found):
        return list(names)
    parts = [match.groups() for match in found if match]
    for ours, others in zip(*parts):
        if ours and others and ours != others:
            return [ours, others]
    return list(names)


def _distinct(folders: Sequence[Path], name: str) -> list[str]:
    """The parts of two paths that differ; numbers where none does."""
    own, other = (folder.resolve().parts for folder in folders)
    first = ["/".join(part for part in own if part not in other)]
    second = ["/".join(part for part in other if part not in own)]
    labels = [*first, *second]
    return labels if all(labels) and labels[0] != labels[1] else [f"{name} (1)", f"{name} (2)"]
