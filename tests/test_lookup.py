"""Names and keys are looked up; an unknown one is a sentence with the nearest, and exit code 2."""

from __future__ import annotations

import pytest

from pcdet_distill.config import lookup, nearest, required
from pcdet_distill.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    UserError,
    exit_on_user_error,
)

TABLE = {"MeanVFE": 1, "PillarVFE": 2}


def test_a_known_name_gives_its_entry():
    assert lookup(TABLE, "PillarVFE", "MODEL.VFE.NAME") == 2


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("PilarVFE", "MODEL.VFE.NAME: unknown name 'PilarVFE'; did you mean 'PillarVFE'?"),
        ("meanvfe", "MODEL.VFE.NAME: unknown name 'meanvfe'; did you mean 'MeanVFE'?"),
        ("Zebra", "MODEL.VFE.NAME: unknown name 'Zebra'; known: MeanVFE, PillarVFE"),
        (
            "Pillar\nVFE",
            r"MODEL.VFE.NAME: unknown name 'Pillar\nVFE'; did you mean 'PillarVFE'?",
        ),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name, answer):
    with pytest.raises(ConfigError) as caught:
        lookup(TABLE, name, "MODEL.VFE.NAME")
    assert str(caught.value) == answer


@pytest.mark.parametrize(
    ("block", "answer"),
    [
        ({"WIDHT": 3}, "MODEL.VFE.WIDTH is missing; did you mean 'WIDHT'?"),
        ({"WIDTH": None}, "MODEL.VFE.WIDTH is missing; known: none"),
        (None, "MODEL.VFE: expected a block of keys with WIDTH, got None"),
    ],
)
def test_a_key_that_must_be_there(block, answer):
    with pytest.raises(ConfigError) as caught:
        required(block, "WIDTH", "MODEL.VFE")
    assert str(caught.value) == answer
    assert required({"WIDTH": 0}, "WIDTH", "MODEL.VFE") == 0


def test_an_empty_table_is_named_as_such():
    assert nearest("x", []) == "; known: none"


@pytest.mark.parametrize("error", [ConfigError, DataError, CheckpointError])
def test_a_users_mistake_is_one_line_and_exit_code_2(error, capsys):
    @exit_on_user_error
    def main() -> None:
        raise error("file.yaml: what is wrong")

    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert issubclass(error, UserError)
    assert capsys.readouterr().err == "error: file.yaml: what is wrong\n"


def test_a_bug_keeps_its_traceback():
    @exit_on_user_error
    def main() -> None:
        raise AssertionError("ours")

    with pytest.raises(AssertionError):
        main()
