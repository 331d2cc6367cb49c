"""Options of the scenes: easy frames stay as they were, names and mistakes, the folder's record."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest

from pcdet_distill.datasets.synthetic import create_synthetic_kitti
from pcdet_distill.datasets.synthetic.labels import frame_labels
from pcdet_distill.datasets.synthetic.scenes.options import (
    EASY,
    LabelOptions,
    SceneOptions,
    read_scenes,
)
from pcdet_distill.datasets.synthetic.sensors.camera import Camera
from pcdet_distill.datasets.synthetic.writer import simulate_frame
from pcdet_distill.errors import ConfigError, DataError

# SHA-256 of the points and the label lines of frames 0 and 1 of seed 7, before there were options.
EASY_FRAMES = (
    "67814d63bc6d3ddd48e095dd961d81c02449a70bee02f60bd27c4ef2cb638c18",
    "c1c83b1b02c971dce644d7ea9b7ece63e102b7109beed1fc9f1b838d13bd04b9",
)


def write(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("for_evaluation", [False, True])
def test_easy_frames_are_those_from_before_there_were_options(for_evaluation: bool) -> None:
    for frame, expected in enumerate(EASY_FRAMES):
        scene, sweep = simulate_frame(7, frame, scenes=EASY, for_evaluation=for_evaluation)
        labels = frame_labels(scene, sweep, Camera.standard())
        lines = "\n".join(label.line() for label in labels)
        content = sweep.points.tobytes() + lines.encode()
        assert hashlib.sha256(content).hexdigest() == expected


def test_the_easy_scenes_have_every_option_at_its_default() -> None:
    assert read_scenes("easy") == SceneOptions()


def test_hard_scenes_use_every_option_but_those_that_would_remove_people() -> None:
    hard = read_scenes("hard")
    unused = ("frequencies", "pedestrians")
    for block in dataclasses.fields(SceneOptions):
        options = getattr(hard, block.name)
        for field in dataclasses.fields(options):
            differs = getattr(options, field.name) != field.default
            assert differs == (field.name not in unused), field.name


def test_a_yaml_of_ones_own(tmp_path: Path) -> None:
    scenes = read_scenes(write(tmp_path, "LABELS: {NOISE: 0.25}\nSHAPES: {FAMILIES: many}\n"))
    assert scenes.labels == LabelOptions(noise=0.25)
    assert scenes.shapes.families == "many"
    assert scenes.weather == EASY.weather


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("LABELS: {NOISE: -1}", "LABELS.NOISE: expected a number from 0 to 3, found -1"),
        ("LABELS: {NOISE: much}", "LABELS.NOISE: expected a number from 0 to 3, found 'much'"),
        ("LABELS: {MISSED: 1.5}", "LABELS.MISSED: expected a number from 0 to 1"),
        ("LABELS: {FEW_POINT: 1}", "FEW_POINTS"),
        ("SHAPES: {FAMILIES: lots}", "SHAPES.FAMILIES: unknown value 'lots'"),
        ("LOOKALIKES: {PEOPLE: 31}", "LOOKALIKES.PEOPLE: expected a number from 0 to 30"),
        ("SURFACES: {BLACK_CARS: 2}", "SURFACES.BLACK_CARS: expected a number from 0 to 1"),
        ("WEATHER: {RAIN: .nan}", "WEATHER.RAIN: expected a number from 0 to 1"),
        ("WEATHERS: {RAIN: 0}", "WEATHER"),
        ("TILT: 3", "TILT"),
        ("STREETS: {OTHER_IN_EVALUATION: 1}", "expected true or false, found 1"),
        ("TRAFFIC: {FREQUENCIES: KITTI}", "unknown value 'KITTI'"),
        ("- 1", "expected a mapping of keys"),
    ],
)
def test_a_mistake_is_one_sentence_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_scenes(write(tmp_path, text))
    message = str(error.value)
    assert words in message
    assert "mine.yaml" in message
    assert "\n" not in message


def test_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(ConfigError, match="no scenes 'hrad'.*hard.*known are easy, hard"):
        read_scenes("hrad")
    with pytest.raises(ConfigError, match="nowhere.yaml: no such file"):
        read_scenes("nowhere.yaml")


def make(out: Path, scenes: SceneOptions, frames: int = 2) -> Path:
    return create_synthetic_kitti(out, frames, seed=1, scenes=scenes, progress=False)


def test_the_record_names_the_scenes_and_other_ones_are_refused(tmp_path: Path) -> None:
    noisy = SceneOptions(labels=LabelOptions(noise=0.5))
    root = make(tmp_path / "noisy", noisy)
    assert json.loads((root / "synthetic.json").read_text())["scenes"]["labels"]["noise"] == 0.5
    make(root, noisy)
    with pytest.raises(DataError, match=r"LABELS.NOISE 0.5 instead of 0.0; choose another"):
        make(root, EASY)
    easy = make(tmp_path / "easy", EASY)
    assert "scenes" not in json.loads((easy / "synthetic.json").read_text())
    with pytest.raises(DataError, match=r"LABELS.NOISE 0.0 instead of 0.5"):
        make(easy, noisy)


def test_a_record_of_other_options_is_refused(tmp_path: Path) -> None:
    root = make(tmp_path / "noisy", SceneOptions(labels=LabelOptions(noise=0.5)))
    record = json.loads((root / "synthetic.json").read_text())
    for broken in ([1], {"labels": record["scenes"]["labels"]}, {**record["scenes"], "labels": 3}):
        (root / "synthetic.json").write_text(json.dumps({**record, "scenes": broken}))
        with pytest.raises(DataError, match="made with scenes of another version"):
            make(root, EASY)
