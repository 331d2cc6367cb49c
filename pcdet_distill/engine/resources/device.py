"""The device of a run: the functions of ``models.device``, which inference uses as well."""

from __future__ import annotations

from ...models.device import choose_device, prepare_for_device, synchronize

__all__ = ["choose_device", "prepare_for_device", "synchronize"]
