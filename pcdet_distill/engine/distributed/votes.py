"""Decisions that all processes take after the same step."""

from __future__ import annotations

import torch
import torch.distributed as dist

from .world import World


class Votes:
    """After every step each process votes; what one of them wants, all do.

    The votes travel by gloo on the CPU while the next step runs. So no process waits, and a GPU is
    not synchronised. With several processes a decision is therefore known one step later.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self._group = dist.new_group(backend="gloo") if world.size > 1 else None
        self._pending: tuple[dist.Work, torch.Tensor] | None = None

    def cast(self, *wishes: bool) -> tuple[bool, ...]:
        """Vote, and return what has been decided: in one process at once, else a step later."""
        if self.world.size == 1:
            return wishes
        decided = self._result(len(wishes))
        votes = torch.tensor(wishes, dtype=torch.uint8)
        work = dist.all_reduce(votes, dist.ReduceOp.MAX, group=self._group, async_op=True)
        self._pending = (work, votes)
        return decided

    def last(self, *wishes: bool) -> tuple[bool, ...]:
        """Vote for the last time, and wait for the result."""
        decided = self.cast(*wishes)
        if self.world.size == 1:
            return decided
        newest = self._result(len(wishes))
        return tuple(first or second for first, second in zip(decided, newest))

    def _result(self, count: int) -> tuple[bool, ...]:
        """What the votes under way say; nothing where there are none."""
        if self._pending is None:
            return (False,) * count
        work, votes = self._pending
        work.wait()
        self._pending = None
        return tuple(bool(vote) for vote in votes)
