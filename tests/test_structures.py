"""Declarations of what a file holds: good values pass, a misfit names key, value and what fits."""

from __future__ import annotations

import numpy as np
import pytest

from pcdet_distill.structures import (
    AtLeast,
    Checked,
    FrameId,
    ListOf,
    Maybe,
    NoneOr,
    Number,
    Numbers,
    Structure,
    Text,
    Texts,
    misfit_of,
    shown,
)

BOXES = Structure(name=Texts("M"), boxes=Numbers("M", AtLeast(7)), count=Maybe(Numbers("M")))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Number(), -1.5),
        (Number(whole=True), np.int32(3)),
        (Number(least=0), np.float32(0)),
        (Text(), "Fußgänger"),
        (FrameId(), "000008"),
        (FrameId(), 8),
        (Numbers(2, 2), [[1, 2], [3, 4.5]]),
        (Numbers(2, 2), np.eye(2, dtype=">f4")),
        (Numbers("M", 3), np.zeros(0)),
        (Numbers("M", 3), []),
        (Numbers(9, unknown_from=7), np.array([0.0] * 7 + [np.nan] * 2)),
        (Texts("M"), np.array(["Car"], dtype=object)),
        (Texts("M"), np.zeros(0)),
        (Texts("M"), ("Car", "Van")),
        (Maybe(Number()), None),
        (ListOf(Number()), [1, 2.5]),
        (BOXES, {"name": np.array(["Car"]), "boxes": np.zeros((1, 9)), "more": object()}),
        (BOXES, {"name": [], "boxes": np.zeros(0), "count": None}),
    ],
)
def test_good_values_pass(kind, value):
    assert misfit_of(value, kind) is None


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (Number(), "3", "but '3', expected a finite number"),
        (Number(), True, "but True"),
        (Number(), float("nan"), "but nan"),
        (Number(), 10**400, "but a whole number of 1329 bits"),
        (Number(whole=True, least=0), 1.0, "but 1.0, expected a whole number from 0 up"),
        (Number(least=0, most=9), 10, "but 10, expected a finite number from 0 to 9"),
        (Text(), "", "but ''"),
        (Text(), b"Car", "but a bytes"),
        (Text(), "a\ud800", "expected a text"),
        (FrameId(), 1.5, "but 1.5, expected the name of a frame"),
        (FrameId(), 10**400, "expected the name of a frame"),
        (Numbers(2), np.zeros(3), "but float64 (3,), expected finite numbers (2,)"),
        (Numbers(2), np.array(["a", "b"]), "but <U1 (2,)"),
        (Numbers(2), np.array([1, "a"], dtype=object), "but object (2,)"),
        (Numbers(2), np.array([1, np.nan]), "but float64 (2,) with nan, expected"),
        (Numbers(2), [1e39, 0], "with 1e+39"),
        (Numbers(2), [10**400, 0], "but a list of 2"),
        (Numbers(2, 2), [[1, 2], [3]], "but a list of 2"),
        (Numbers(2, 2), [[1, 2], 3], "but a list of 2"),
        (Numbers(2), 5, "but 5, expected finite numbers (2,)"),
        (Numbers(2), np.array(5.0), "but float64 ()"),
        (Numbers(2, least=0, most=9), np.array([-1, 3]), "but int64 (2,) with -1"),
        (Numbers(2, whole=True), np.zeros(2), "expected whole numbers (2,)"),
        (Numbers(9, unknown_from=7), np.full(9, np.nan), "with nan"),
        (Numbers(9, unknown_from=7), np.array([0.0] * 7 + [np.inf] * 2), "with inf"),
        (Texts("M"), np.zeros(3), "but float64 (3,), expected texts (M,)"),
        (Texts("M"), [1, 2], "but a list of 2"),
        (Texts("M"), "Car", "but 'Car'"),
        (ListOf(Number()), {}, "but a dict of 0, expected a list"),
        (ListOf(Number(), least=1), [], "expected a list of 1 or more"),
        (ListOf(Number()), [1, "a"], "its [1] is 'a'"),
        (BOXES, 5, "but a int, expected a mapping with name, boxes, count"),
        (BOXES, {"name": []}, "it lacks boxes (finite numbers (M, 7 or more))"),
        (BOXES, {"name": ["a"], "boxes": np.zeros((2, 7))}, "M = 1 as in name"),
        (Structure(x=NoneOr(Number())), {}, "it lacks x"),
        (Structure(a=BOXES), {"a": None}, "it lacks a.name"),
        (Structure(a=ListOf(BOXES)), {"a": [{"name": [1]}]}, "its a[0].name is a list of 1"),
    ],
)
def test_a_misfit_names_key_value_and_expectation(kind, value, words):
    assert words in str(misfit_of(value, kind))


def test_sizes_belong_to_one_entry():
    kind = ListOf(BOXES)
    two = {"name": ["a", "b"], "boxes": np.zeros((2, 7))}
    three = {"name": ["a", "b", "c"], "boxes": np.zeros((3, 7))}
    assert misfit_of([two, three], kind) is None


def test_a_structure_may_be_empty_without_its_key():
    kind = Structure(only_with="name", name=Texts("M"), boxes=Numbers("M", 7))
    assert misfit_of({"name": None, "boxes": None}, kind) is None
    assert misfit_of({}, kind) is None
    assert "lacks boxes" in str(misfit_of({"name": ["a"]}, kind))


def test_what_is_shared_is_checked_once():
    entry = {"name": ["a"] * 1000, "boxes": np.zeros((1000, 7))}
    assert misfit_of([entry] * 10_000, ListOf(BOXES), Checked(limit=9000)) is None


def test_lists_that_repeat_each_other_are_refused():
    """Ten thousand entries, all with the same list of ten thousand names."""
    names = ["a"] * 10_000
    entries = [{"name": names} for _ in range(10_000)]
    misfit = misfit_of(entries, ListOf(Structure(name=Texts("M"))), Checked(limit=1_000_000))
    assert "repeated too often" in str(misfit)
    rows = [0.0] * 10_000
    assert misfit_of([rows] * 10_000, Numbers(10_000, 10_000)) is not None


def test_long_values_are_cut():
    assert shown("a" * 100) == "'" + "a" * 36 + "..."
    assert shown(np.zeros((3, 4))) == "float64 (3, 4)"
    assert shown([1, 2]) == "a list of 2"
