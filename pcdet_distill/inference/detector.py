"""The detector of a checkpoint: points in, boxes out."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import torch
from easydict import EasyDict
from torch import nn

from ..datasets.item import Item
from ..datasets.readers import CloudSource
from ..errors import ConfigError
from ..models import load_data_to_device
from ..types import BatchDict
from .clouds import Points, clouds_of
from .detections import Detections
from .predict import box_width, predict_batch
from .processing import CloudProcessing, is_empty
from .settings import BoxSettings


class Detector:
    """Call it with points; it returns ``Detections``. Make one by ``load_detector``.

    Attributes:
        cfg: the config.
        model: the network, in eval mode.
        dataset: what makes items and batches of clouds.
        class_names: label 1 is the first.
        device: where the network is.
        settings: which boxes are returned; a call may change them for itself.
        batch_size: clouds that go through the network together.
    """

    def __init__(
        self,
        cfg: EasyDict,
        model: nn.Module,
        dataset: CloudProcessing,
        device: torch.device,
        *,
        settings: BoxSettings | None = None,
        batch_size: int = 1,
    ) -> None:
        self.cfg = cfg
        self.model = model
        self.dataset = dataset
        self.class_names = list(dataset.class_names)
        self.device = device
        self.settings = settings or BoxSettings()
        self.settings.check(self.class_names)
        self.batch_size = _checked_batch_size(batch_size)
        self._box_width = box_width(model)
        # Heads keep a forward's outputs and settings as attributes, so one thread runs at a time.
        self._lock = threading.Lock()

    def __call__(
        self, points: Points, *, batch_size: int | None = None, **settings: Any
    ) -> Detections | list[Detections]:
        """The boxes of one cloud, or a list of those of several.

        Args:
            points: an array (N, 3 or more), a tensor, the path of a file, or a list of these; a
                folder of files or a recording also gives a list.
            batch_size: clouds that go through the network together.
            settings: ``score_threshold``, ``nms_threshold``, ``max_boxes``, ``classes`` of this
                call, as for ``load_detector``.
        """
        sources, is_single = clouds_of(points)
        found = list(self._stream(sources, batch_size, settings))
        return found[0] if is_single else found

    def stream(
        self, points: Points, *, batch_size: int | None = None, **settings: Any
    ) -> Iterator[Detections]:
        """The boxes of each cloud, as soon as they are there: for recordings and long lists."""
        sources, _ = clouds_of(points)
        return self._stream(sources, batch_size, settings)

    def _stream(
        self, sources: Sequence[CloudSource], batch_size: int | None, changes: dict[str, Any]
    ) -> Iterator[Detections]:
        settings = self.settings.changed(changes)
        settings.check(self.class_names)
        size = self.batch_size if batch_size is None else _checked_batch_size(batch_size)
        parts = _in_parts(self._items(sources), size)
        return chain.from_iterable(self.detect(part, settings) for part in parts)

    def items(self, points: Points) -> Iterator[Item]:
        """The clouds as the network reads them, one by one."""
        sources, _ = clouds_of(points)
        return self._items(sources)

    def _items(self, sources: Sequence[CloudSource]) -> Iterator[Item]:
        for source in sources:
            for index in range(len(source)):
                yield self.dataset.item(source, index)

    def batch(self, points: Points) -> BatchDict:
        """All clouds of ``points`` as one batch on the device."""
        batch = self.dataset.collate_batch(list(self.items(points)))
        load_data_to_device(batch, self.device)
        return batch

    def predict(self, batch: BatchDict, settings: BoxSettings | None = None) -> list[Detections]:
        """The boxes of every frame of a batch, of ``batch`` or of any dataset's loader."""
        settings = settings or self.settings
        with self._lock, settings.applied_to(self.model):
            predictions, _ = predict_batch(self.model, batch, self.device)
        found = [Detections.from_prediction(one, self.class_names) for one in predictions]
        return [settings.select(one) for one in found]

    def detect(
        self, items: Sequence[Item], settings: BoxSettings | None = None
    ) -> list[Detections]:
        """The boxes of items. One without points has none, and does not reach the network."""
        seen = [item for item in items if not is_empty(item)]
        found: Iterator[Detections] = iter(())
        if seen:
            found = iter(self.predict(self.dataset.collate_batch(seen), settings))
        return [
            Detections.none(self._box_width) if is_empty(item) else next(found) for item in items
        ]


def _in_parts(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of ``size`` items, the last one shorter."""
    part: list[Item] = []
    for item in items:
        part.append(item)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


def _checked_batch_size(size: int) -> int:
    if size < 1:
        raise ConfigError(f"batch_size {size}: expected 1 or more")
    return size
