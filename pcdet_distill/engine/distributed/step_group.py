"""What the processes of a training tell each other between its steps."""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.distributed as dist

from .world import World

T = TypeVar("T")


class StepGroup:
    """Votes and values of all processes, by gloo on the CPU: no GPU is synchronised.

    The timeout is that of a step. So a process that has stopped is noticed soon.
    """

    def __init__(self, world: World) -> None:
        self.size = world.size
        self._group = world.new_step_group("gloo") if world.size > 1 else None
        self._pending: tuple[dist.Work, torch.Tensor] | None = None

    def vote(self, *wishes: bool) -> tuple[bool, ...]:
        """Vote after a step, and return what has been decided: what one process wants, all do.

        The votes travel while the next step runs, and nobody waits. So several processes know a
        decision one step later; one process knows it at once.
        """
        if self.size == 1:
            return wishes
        decided = self._result(len(wishes))
        votes = torch.tensor(wishes, dtype=torch.uint8)
        work = dist.all_reduce(votes, dist.ReduceOp.MAX, group=self._group, async_op=True)
        self._pending = (work, votes)
        return decided

    def last_vote(self, *wishes: bool) -> tuple[bool, ...]:
        """Vote for the last time, and wait for the result."""
        decided = self.vote(*wishes)
        if self.size == 1:
            return decided
        newest = self._result(len(wishes))
        return tuple(first or second for first, second in zip(decided, newest))

    def gather(self, value: T) -> list[T]:
        """The ``value`` of every process, ordered by rank, in every process."""
        if self.size == 1:
            return [value]
        values = [value] * self.size
        dist.all_gather_object(values, value, group=self._group)
        return values

    def first(self, value: T | None) -> T | None:
        """The value of the first process that has one. Costs a few bytes while none has."""
        if self.size == 1:
            return value
        has_one = torch.tensor(value is not None, dtype=torch.uint8)
        dist.all_reduce(has_one, dist.ReduceOp.MAX, group=self._group)
        if not has_one:
            return None
        return next(each for each in self.gather(value) if each is not None)

    def _result(self, count: int) -> tuple[bool, ...]:
        """What the votes under way say; nothing where there are none."""
        if self._pending is None:
            return (False,) * count
        work, votes = self._pending
        work.wait()
        self._pending = None
        return tuple(bool(vote) for vote in votes)
