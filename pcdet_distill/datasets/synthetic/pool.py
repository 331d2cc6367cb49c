"""The same work for many numbers, in this process or in several."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence

from tqdm import tqdm


def work_through(
    work: Callable[[int], None],
    numbers: Sequence[int],
    *,
    processes: int,
    unit: str,
    progress: bool,
    chunk: int = 4,
) -> None:
    """Call ``work`` with every number.

    Args:
        work: can be pickled.
        numbers: its arguments.
        processes: 0 or 1 for this process alone.
        unit: what a number stands for, in the progress bar.
        progress: show the bar, on a terminal.
        chunk: numbers that a process takes at once.
    """
    # tqdm: False shows the bar, None on a terminal only.
    disable = None if progress and numbers else True
    with tqdm(total=len(numbers), desc="simulating", unit=unit, disable=disable) as bar:
        if processes < 2 or len(numbers) < 2:
            for number in numbers:
                work(number)
                bar.update()
            return
        work(numbers[0])  # compiles the kernels once, for all processes
        bar.update()
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            for _ in pool.imap_unordered(work, numbers[1:], chunksize=chunk):
                bar.update()
