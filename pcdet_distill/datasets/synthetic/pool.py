"""The same work for many numbers, in this process or in several."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tqdm import tqdm

from ...parallel import LocalEngine, Workers


def work_through(
    work: Callable[[int], None],
    numbers: Sequence[int],
    *,
    workers: Workers,
    unit: str,
    progress: bool,
) -> None:
    """Call ``work`` with every number.

    Args:
        work: can be pickled.
        numbers: its arguments.
        workers: 0 or 1 for this process alone, a number of processes, or an engine.
        unit: what a number stands for, in the progress bar.
        progress: show the bar, on a terminal.
    """
    # tqdm: False shows the bar, None on a terminal only.
    disable = None if progress and numbers else True
    with tqdm(total=len(numbers), desc="simulating", unit=unit, disable=disable) as bar:
        for number in numbers[:1]:
            work(number)  # compiles the kernels once, for all processes
            bar.update()
        # Forked processes would share the threads of the compiled kernels, and wait for them.
        if isinstance(workers, int):
            workers = LocalEngine(workers, method="spawn")
        with workers.results(work, numbers[1:]) as results:
            for _ in results:
                bar.update()
