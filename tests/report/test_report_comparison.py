"""The comparison table: means, verdicts, three formats, and the README's generated section."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from pcdet_distill.errors import DataError
from pcdet_distill.evaluation.lidar import lidar_eval
from pcdet_distill.report.comparison import (
    BEGIN,
    END,
    Comparison,
    ModelResult,
    ap_words,
    human_count,
    insert_results,
    read_ap,
    read_nuscenes,
    read_report,
    to_markdown,
    to_text,
    write_report,
)


def result(name: str, offset: float) -> ModelResult:
    ap = {
        "bev": {"Car": 80.0 + offset, "Pedestrian": 40.0 + offset, "Cyclist": 60.0 + offset},
        "3d": {"Car": 60.0 + offset, "Pedestrian": 30.0 + offset, "Cyclist": 45.0 + offset},
    }
    return ModelResult(name, f"cfgs/synthetic/{name}.yaml", 10, 165_000, 0.81, 12.3, ap)


def comparison(distilled: float, **changes) -> Comparison:
    rows = (result("teacher", 10.0), result("student", 0.0), result("distilled", distilled))
    return dataclasses.replace(
        Comparison(*rows, 400, 100, "cpu, 1 thread", "bash quickstart.sh"), **changes
    )


def test_map_is_the_mean_of_the_classes():
    assert result("student", 0.0).map("3d") == pytest.approx(45.0)
    assert result("student", 0.0).map("bev") == pytest.approx(60.0)


@pytest.mark.parametrize(
    ("distilled", "words"),
    [
        (4.0, "helped: 3D mAP 45.0 -> 49.0 (+4.0, 40 % of the gap closed), BEV mAP +4.0"),
        (-2.5, "hurt: 3D mAP 45.0 -> 42.5 (-2.5), BEV mAP -2.5"),
        (0.0, "changed nothing: 3D mAP 45.0 -> 45.0 (+0.0)"),
    ],
)
def test_the_verdict_reports_win_or_not(distilled, words):
    assert words in comparison(distilled).verdict()
    assert "one seed" in comparison(distilled).verdict()


def test_a_student_above_its_teacher_has_no_gap_to_close():
    rows = (result("teacher", -5.0), result("student", 0.0), result("distilled", 3.0))
    verdict = Comparison(*rows, 400, 100, "cpu", "x").verdict()
    assert "helped" in verdict
    assert "%" not in verdict


def test_a_smoke_run_has_no_verdict_but_a_warning():
    smoke = comparison(4.0, smoke=True)
    assert "means nothing" in smoke.verdict()
    assert "helped" not in to_text(smoke) + to_markdown(smoke)


def test_text_columns_line_up_and_hold_every_figure():
    header, _, *rows = to_text(comparison(4.0)).split("\n\n")[0].splitlines()
    assert len({len(line) for line in [header, *rows]}) == 1
    assert re.split(r"\s{2,}", rows[2]) == [
        "distilled",
        "165 k",
        "0.81",
        "12 ms",
        "84.0",
        "44.0",
        "64.0",
        "64.0",
        "64.0",
        "34.0",
        "49.0",
        "49.0",
    ]
    assert "3d mAP" in header
    assert "bev Car" in header


def test_markdown_rows_have_the_headers_cells_and_links():
    lines = to_markdown(comparison(4.0)).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert {line.count("|") for line in table} == {13}
    assert "[student](cfgs/synthetic/student.yaml)" in table[3]
    assert "Reproduce: `bash quickstart.sh`" in lines


def nuscenes_comparison() -> Comparison:
    rows = []
    for name, car, nds in (("teacher", 60.0, 50.0), ("student", 40.0, 35.0), ("init", 50.0, 41.0)):
        ap = {"ap": {"car": car, "construction_vehicle": 20.0}}
        rows.append(ModelResult(name, f"{name}.yaml", 8, 1000, 0.5, 9.0, ap, {"NDS": nds}))
    return Comparison(*rows, 320, 80, "cpu", "bash quickstart.sh", benchmark="nuscenes")


def test_nuscenes_has_one_kind_of_ap_and_nds(tmp_path):
    wanted = nuscenes_comparison()
    assert "helped: mAP 30.0 -> 35.0 (+5.0, 50 % of the gap closed), NDS +6.0." in wanted.verdict()
    header, _, *rows = to_text(wanted).split("\n\n")[0].splitlines()
    assert header.split()[-7:] == ["ap", "car", "ap", "constr", "ap", "mAP", "NDS"]
    assert rows[1].split()[-4:] == ["40.0", "20.0", "30.0", "35.0"]
    table = [line for line in to_markdown(wanted).splitlines() if line.startswith("|")]
    assert {line.count("|") for line in table} == {9}
    assert "KITTI" not in to_text(wanted)
    paths = write_report(wanted, tmp_path)
    assert read_report(paths[2]) == wanted


def test_ap_and_nds_of_a_nuscenes_evaluation(tmp_path):
    path = tmp_path / "metrics.json"
    numbers = {"mean_dist_aps": {"car": 0.5, "bus": 0.25}, "nd_score": 0.4}
    path.write_text(json.dumps({"ap": numbers}))
    assert read_nuscenes(path, ["car"]) == ({"ap": {"car": 50.0}}, {"NDS": 40.0})
    with pytest.raises(DataError, match="metrics.json: not the metrics.json of a nuScenes"):
        read_nuscenes(path, ["lorry"])


def test_counts_for_readers():
    assert human_count(4_834_888) == "4.83 M"
    assert human_count(644_592) == "645 k"


def test_written_and_read_again(tmp_path):
    wanted = comparison(4.0, notes=["a note"])
    paths = write_report(wanted, tmp_path / "out")
    assert [path.name for path in paths] == ["report.txt", "report.md", "report.json"]
    assert read_report(paths[2]) == wanted
    plain = json.loads(paths[2].read_text())
    assert plain["gain"]["3d"] == pytest.approx(4.0)
    assert plain["student"]["map"]["bev"] == pytest.approx(60.0)


@pytest.mark.parametrize("content", ["{}", "[1]", "not json", '{"teacher": {}}'])
def test_a_foreign_file_is_refused_by_name(tmp_path, content):
    path = tmp_path / "report.json"
    path.write_text(content)
    with pytest.raises(DataError, match="report.json"):
        read_report(path)


def test_results_replace_what_stands_between_the_markers(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"# title\n\n{BEGIN}\nold\n{END}\n\nrest\n")
    insert_results(readme, "new\n")
    assert readme.read_text() == f"# title\n\n{BEGIN}\nnew\n{END}\n\nrest\n"
    insert_results(readme, "newer\n")
    assert readme.read_text() == f"# title\n\n{BEGIN}\nnewer\n{END}\n\nrest\n"


@pytest.mark.parametrize("text", ["none", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_missing_or_doubled_markers_are_refused_and_change_nothing(tmp_path, text):
    readme = tmp_path / "README.md"
    readme.write_text(text)
    with pytest.raises(DataError, match=r"README\.md"):
        insert_results(readme, "new")
    assert readme.read_text() == text


def test_ap_of_an_evaluation_in_lidar_coordinates(tmp_path: Path) -> None:
    """It is the exact area at the threshold that ranks, which comes first."""
    truth, found = [], []
    for number in range(4):
        box = (10.0, 4.0 * number, -1.0, 4.0, 1.8, 1.6, 0.1)
        truth.append({"frame_id": str(number), "name": ["Forklift"], "gt_boxes_lidar": [box]})
        turned = (*box[:2], box[2] + 0.7 * (number % 2), *box[3:])
        found.append(
            {"frame_id": str(number), "name": ["Forklift"], "score": [0.5], "boxes_lidar": [turned]}
        )
    result = lidar_eval(truth, found, ["Forklift", "Person"])
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps({"ap": result.metrics()}))
    ap = read_ap(path, ["Forklift"])
    assert ap == {"bev": {"Forklift": 100.0}, "3d": {"Forklift": 25.0}}
    with pytest.raises(DataError, match="nor of one in LiDAR coordinates"):
        read_ap(path, ["Forklift", "Person"])  # no object, no AP


def test_the_words_name_the_evaluation() -> None:
    assert ap_words({"DATASET": "KittiDataset"}) == "KITTI moderate, R40"
    assert "LiDAR" in ap_words({"DATASET": "KittiDataset", "EVALUATION": {}})
    assert "LiDAR" in ap_words({"DATASET": "CustomDataset"})
