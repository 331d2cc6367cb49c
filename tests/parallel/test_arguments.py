"""The flags that choose an engine."""

from __future__ import annotations

import argparse

import pytest
from fake_ray import FakeRay

from pcdet_distill.errors import ConfigError
from pcdet_distill.parallel import LocalEngine, add_engine_arguments, engine_of, on_ray
from pcdet_distill.parallel.on_ray import RayEngine, RayOptions


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_engine_arguments(parser, jobs=True)
    return parser.parse_args(words)


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The addresses of the clusters that were asked for."""
    asked: list[str | None] = []

    def connect(address: str | None) -> FakeRay:
        asked.append(address)
        return FakeRay()

    monkeypatch.setattr(on_ray, "connect", connect)
    return asked


def test_this_machine_is_the_default(addresses: list[str | None]) -> None:
    local = LocalEngine(3)
    assert engine_of(parse(), local) is local
    assert engine_of(parse("--engine", "local"), 5) == 5
    assert addresses == []


def test_a_cluster_and_what_a_run_takes_of_it(addresses: list[str | None]) -> None:
    engine = engine_of(parse("--engine", "ray"), 1, gpus=1.0)
    assert isinstance(engine, RayEngine)
    assert engine.options == RayOptions(address=None, cpus=1.0, gpus=1.0, retries=3)
    words = ["--engine", "ray", "--address", "auto", "--retries", "0"]
    engine = engine_of(parse(*words, "--cpus_per_run", "4", "--gpus_per_run", "0.5"), 1, gpus=1.0)
    assert isinstance(engine, RayEngine)
    assert engine.options == RayOptions(address="auto", cpus=4.0, gpus=0.5, retries=0)
    assert addresses == [None, "auto"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--address", "auto"], "--address: only for --engine ray"),
        (["--gpus_per_run", "1"], "--gpus_per_run: only for --engine ray"),
        (["--engine", "ray", "--retries", "-1"], "--retries -1: expected 0 or more"),
        (["--engine", "ray", "--gpus_per_run", "-1"], "--gpus_per_run -1.0: expected 0 or more"),
    ],
)
def test_what_does_not_fit_is_refused(
    words: list[str], sentence: str, addresses: list[str | None]
) -> None:
    with pytest.raises(ConfigError, match=f"^{sentence}$"):
        engine_of(parse(*words), 1)
    assert addresses == []
