"""Graphs of objects: for every labelled box, nodes within it and around it."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import torch
from torch import Tensor

from ...ops.boxes import along_and_across
from ..labelled_boxes import without_padding


@dataclasses.dataclass(frozen=True)
class ObjectGraphs:
    """Nodes of G objects. An object without any node is left out.

    Attributes:
        members: (E,) rows of the nodes in the region of an object, object by object. A node may
            belong to several objects.
        owners: (E,) the object of each member, in ascending order.
        rows: (G, K) the members of each object that are related with each other.
        is_valid: (G, K) False where an object has fewer than K members.
    """

    members: Tensor
    owners: Tensor
    rows: Tensor
    is_valid: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def sizes(self) -> Tensor:
        """(G,) number of members of each object."""
        return torch.bincount(self.owners, minlength=len(self))


class _Members(NamedTuple):
    """E nodes in regions: rows, objects, and distances from the centre, 1 at the border."""

    rows: Tensor
    owners: Tensor
    distances: Tensor


@torch.no_grad()
def object_graphs(
    coords: Tensor, batch_index: Tensor, gt_boxes: Tensor, *, margin_m: float, count: int
) -> ObjectGraphs:
    """The graphs of all labelled objects of a batch.

    The region of an object is its box, grown by a margin, seen from above. Of its members ``count``
    are related, evenly spaced from the innermost to the outermost. The nearest ones alone would be
    nearly equal, and a relation between equal nodes says nothing.

    Args:
        coords: (N, 3) x, y, z in metres; z is not used.
        batch_index: (N,) int64.
        gt_boxes: (B, G, 7 + C + 1).
        margin_m: by which a region exceeds its box on each side.
        count: K.
    """
    found = []
    objects = 0
    for frame, frame_boxes in enumerate(gt_boxes):
        boxes = without_padding(frame_boxes)[:, :7].to(coords.dtype)
        rows = torch.nonzero(batch_index == frame).flatten()
        members = _members(coords[rows, :2], boxes, margin_m)
        found.append(_Members(rows[members.rows], members.owners + objects, members.distances))
        objects += len(boxes)
    together = _Members(*(torch.cat(parts) for parts in zip(*found)))
    return _related(_from_inside_out(together), count)


def _members(places: Tensor, boxes: Tensor, margin_m: float) -> _Members:
    """The members of the boxes (G, 7) of one frame; rows count in ``places`` (n, 2)."""
    along, across = along_and_across(places, boxes)
    half_length, half_width = (boxes[:, 3:5] / 2 + margin_m).split(1, dim=1)
    distances = torch.maximum(along.abs() / half_length, across.abs() / half_width)
    owners, rows = torch.nonzero(distances <= 1, as_tuple=True)
    return _Members(rows, owners, distances[owners, rows])


def _from_inside_out(members: _Members) -> _Members:
    """The members object by object, each object's by their distance. Objects are numbered anew."""
    order = torch.argsort(members.owners.double() * 2 + members.distances.double(), stable=True)
    _, owners = torch.unique(members.owners[order], return_inverse=True)
    return _Members(members.rows[order], owners, members.distances[order])


def _related(members: _Members, count: int) -> ObjectGraphs:
    """``count`` members of every object, evenly spaced from its first to its last."""
    sizes = torch.bincount(members.owners)[:, None]  # (G, 1)
    first = sizes.cumsum(dim=0) - sizes
    slots = torch.arange(count, device=sizes.device)[None]
    used = sizes.clamp_max(count)
    # Whole steps of at least one: no member is taken twice.
    ranks = slots * (sizes - 1) // (used - 1).clamp_min(1)
    is_valid = slots < used
    rows = members.rows[(first + ranks).masked_fill(~is_valid, 0)]
    return ObjectGraphs(members.rows, members.owners, rows, is_valid)
