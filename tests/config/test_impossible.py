"""Impossible values of a block are one sentence with the block, the reason and the place."""

from __future__ import annotations

import pytest

from pcdet_distill.config import built_from
from pcdet_distill.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TypeError("must be real number, not str"), "TypeError: must be real number, not str, in"),
        (RuntimeError("can't allocate memory.\nmore"), r"RuntimeError: can't allocate memory, in"),
        (KeyError("x"), "KeyError: 'x', in"),
        (ValueError(), r"\(ValueError, in test_impossible.py:"),
    ],
)
def test_any_error_is_of_the_block(error, words):
    refused = pytest.raises(ConfigError, match=f"MODEL.VFE: cannot be built.*{words}")
    with refused as caught, built_from("MODEL.VFE"):
        raise error
    assert caught.value.__cause__ is error


def test_a_sentence_stays():
    with pytest.raises(DataError, match="^gone$"), built_from("MODEL.VFE"):
        raise DataError("gone")
