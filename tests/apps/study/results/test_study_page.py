"""report.html of a study: the tables with their spread and verdicts, the rows' mean curves."""

from __future__ import annotations

import pytest
from page_reader import read_page
from test_run_page import write_log
from test_study_command import toy_tool
from toy_evaluation import random_evaluation, toy_evaluation

from pcdet_distill import cli
from pcdet_distill.report.collect import collect
from pcdet_distill.report.record import write_record

__all__ = ["toy_tool"]


@pytest.fixture
def page(toy_tool, tmp_path):
    """Gives the page of the toy study as it is now."""

    def read():
        toy_tool("--table")
        file = tmp_path / "output" / "study" / "toys" / "report.html"
        return read_page(file.read_text(encoding="utf-8"))

    return read


def test_the_page_of_a_study(toy_tool, page, tmp_path, capsys):
    (tmp_path / "toy.json").write_text("{}")
    toy_tool("--jobs", "2")
    assert f"report: {tmp_path / 'output/study/toys/report.html'}" in capsys.readouterr().out
    reader = page()
    header, *rows = reader.tables[0]
    assert header[0] == "row"
    mean = {row[0]: row[header.index("3D mAP")] for row in rows}
    assert mean["plain"] == "12.0±0.0"
    assert "not shown: 2 seeds, 5 needed" in reader.words
    assert reader.count("svg") == 0  # these evaluations stored no data of a report

    files = sorted((tmp_path / "output").rglob("metrics.json"))
    for number, file in enumerate(files):
        write_record(collect(toy_evaluation(*random_evaluation(number))), file.parent)
    reader = page()
    assert "Precision and recall" in reader.words
    assert "plain: AP" in reader.words and "recipe: AP" in reader.words
    assert reader.count("path", "spread") > 0


def test_losses_of_the_first_seed(toy_tool, page, tmp_path):
    (tmp_path / "toy.json").write_text("{}")
    toy_tool("--jobs", "2")
    for file in sorted((tmp_path / "output").rglob("metrics.json")):
        write_record(collect(toy_evaluation(*random_evaluation())), file.parent)
    for file in sorted((tmp_path / "output").rglob("metrics.jsonl")):
        write_log(file.parent)
    assert "Losses are those of the first seed" in page().words


def test_report_opens_a_study_by_its_folder(toy_tool, tmp_path, capsys, monkeypatch):
    (tmp_path / "toy.json").write_text("{}")
    toy_tool("--jobs", "2", "--epochs", "1")
    folder = tmp_path / "output" / "study" / "toys-epochs1"
    for file in sorted((tmp_path / "output").rglob("metrics.json")):
        write_record(collect(toy_evaluation(*random_evaluation())), file.parent)
        (file.parent / "report.html").touch()
    (folder / "report.html").unlink()
    monkeypatch.chdir(tmp_path.parent)
    cli.main(["report", str(folder)])
    assert f"report: {folder / 'report.html'}" in capsys.readouterr().out
    html = (folder / "report.html").read_text(encoding="utf-8")
    reader = read_page(html)
    assert {"plain", "recipe"} <= {line[0] for line in reader.tables[0]}
    header, *files = reader.tables[-1]
    assert header == ["row", "seed", "split", "file"]
    assert len(files) == 5  # two rows of two seeds, and their teacher
    assert all((tmp_path / line[-1]).is_file() for line in files)

    sent = tmp_path / "sent" / "toys.html"
    cli.main(["report", str(folder), "--out", str(sent)])
    assert read_page(sent.read_text(encoding="utf-8")).tables == reader.tables


def refusal(capsys, *words: object) -> str:
    with pytest.raises(SystemExit) as exit_info:
        cli.main(["report", *map(str, words)])
    assert exit_info.value.code == 2
    return capsys.readouterr().err


def test_a_folder_that_is_not_that_of_its_yaml(toy_tool, tmp_path, capsys):
    (tmp_path / "toy.json").write_text("{}")
    toy_tool("--jobs", "2")
    folder = tmp_path / "output" / "study" / "toys"
    (folder / "call.json").unlink()  # as an earlier version left it
    cli.main(["report", str(folder)])
    assert "two runs" in refusal(capsys, folder, folder)
    renamed = folder.rename(folder.with_name("other"))
    assert "is the study 'toys', whose folder is output/study/toys" in refusal(capsys, renamed)
    (renamed / "study.json").write_text('{"data": 3}')
    assert "does not name the yaml" in refusal(capsys, renamed)
    (renamed / "study.json").write_text("[3]")
    assert "does not name the yaml" in refusal(capsys, renamed)
    (renamed / "study.json").write_text('{"file": "cfgs/gone.yaml"}')
    assert "gone.yaml" in refusal(capsys, renamed)
