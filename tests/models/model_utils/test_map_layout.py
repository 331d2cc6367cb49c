"""The layout of dense maps by device, precision and environment variable."""

from __future__ import annotations

import pytest
import torch
from pretend_gpu import pretended

from pcdet_distill.errors import ConfigError
from pcdet_distill.models.model_utils.map_layout import VARIABLE, map_layout, with_layout


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def channels_last_map() -> torch.Tensor:
    """A map (2, 4, 3, 5) in the layout that scattered rows have."""
    return torch.randn(2, 3, 5, 4).permute(0, 3, 1, 2)


def test_a_cpu_keeps_the_rows_as_they_were_scattered() -> None:
    rows = channels_last_map()
    assert with_layout(rows) is rows


@pytest.mark.parametrize("allow_tf32", [True, False])
def test_only_plain_float32_on_cuda_is_contiguous(
    allow_tf32: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", allow_tf32)
    expected = torch.channels_last if allow_tf32 else torch.contiguous_format
    with pretended("cuda"):
        on_gpu = channels_last_map().to("cuda")
        assert map_layout(on_gpu) is expected
        assert map_layout(on_gpu.half()) is torch.channels_last
        monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: device == "cuda")
        assert map_layout(on_gpu) is torch.channels_last


@pytest.mark.parametrize("name", ["contiguous", "channels_last"])
def test_the_variable_decides(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, name)
    rows = channels_last_map()
    laid_out = with_layout(rows)
    assert torch.equal(laid_out, rows)
    assert laid_out.is_contiguous() == (name == "contiguous")


def test_an_unknown_layout_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "nhwc")
    with pytest.raises(ConfigError, match="'nhwc', expected one of auto, channels_last"):
        with_layout(channels_last_map())
