"""The table of what a study shows: differences on every split, cost, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .shown import Shown

COST_TITLE = "cost"


def shown_lines(
    shown: Sequence[Shown], titles: Mapping[str, str], splits: Sequence[str], sign: str = "+-"
) -> list[list[str]]:
    """A header, then a line for each comparison.

    Args:
        titles: what rows are called, by name.
        splits: the evaluated splits, a column each.
        sign: stands between a mean and its standard error.
    """
    lines = [["row", "against", "seeds", *splits, COST_TITLE, "verdict"]]
    for each in shown:
        cells = [titles[each.row], titles[each.other]]
        cells.append(str(each.differences[splits[-1]].seeds))
        cells += [each.differences[split].text(sign) for split in splits]
        cells.append("-" if each.cost_ratio is None else f"{each.cost_ratio:.2f}x")
        cells.append(each.verdict)
        lines.append(cells)
    return lines
