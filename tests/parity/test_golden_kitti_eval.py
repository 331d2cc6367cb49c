"""KITTI evaluation against OpenPCDet's recorded APs, precision curves and printed text."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from pcdet_distill.evaluation.kitti import KittiResult, kitti_eval


def frames(archive: dict[str, np.ndarray], kind: str) -> list[dict[str, np.ndarray]]:
    """The flat columns of ``gt`` or ``dt`` as one dict per frame."""
    cuts = np.cumsum(archive[f"{kind}_count"])[:-1]
    columns = {}
    for key, value in archive.items():
        if key.startswith(f"{kind}_") and key != f"{kind}_count":
            columns[key.removeprefix(f"{kind}_")] = np.split(value, cuts)
    return [dict(zip(columns, rows)) for rows in zip(*columns.values())]


@cache
def evaluate(json_file: Path) -> tuple[KittiResult, dict]:
    """The result of a recorded set, and its recorded numbers."""
    golden = json.loads(json_file.read_text())
    with np.load(json_file.with_suffix(".npz"), allow_pickle=False) as archive:
        arrays = dict(archive)
    return kitti_eval(frames(arrays, "gt"), frames(arrays, "dt"), golden["classes"]), golden


@pytest.mark.golden("kitti_eval/*.json")
def test_average_precision(golden_file: Path) -> None:
    result, golden = evaluate(golden_file)
    assert list(result.ap_dict) == list(golden["ap_dict"])
    for key, value in golden["ap_dict"].items():
        assert result.ap_dict[key] == pytest.approx(value, abs=1e-6), key


@pytest.mark.golden("kitti_eval/*.json")
def test_precision_curves(golden_file: Path) -> None:
    result, golden = evaluate(golden_file)
    for metric, curves in golden["precision"].items():
        if metric == "aos" and metric not in result.precision:
            assert not any("aos" in key for key in golden["ap_dict"])
            continue
        np.testing.assert_allclose(
            result.precision[metric], np.array(curves), atol=1e-8, err_msg=metric
        )


@pytest.mark.golden("kitti_eval/*.json")
def test_printed_text(golden_file: Path) -> None:
    result, golden = evaluate(golden_file)
    assert str(result).splitlines() == golden["printed"].splitlines()
