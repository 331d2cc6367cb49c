"""The table of faults."""

from __future__ import annotations

from pathlib import Path

from benchmarks.faults.outcomes import (
    BEGIN,
    END,
    HELD,
    LOST,
    SAID,
    Table,
    Trial,
    markdown,
    put_table,
    read_rows,
    rows_of,
    write_json,
)

TRIALS = [
    Trial("a kill", HELD, seed=1),
    Trial("a full disk", SAID, "error: a | b", seed=1),
    Trial("a kill", LOST, "other weights", seed=2),
    Trial("a kill", HELD, seed=3),
]


def test_trials_are_counted_by_fault() -> None:
    kill, disk = rows_of(TRIALS)
    assert (kill.times, kill.held, kill.said, kill.lost) == (3, 2, 0, 1)
    assert kill.losses == ["seed 2: other weights"]
    assert (disk.times, disk.said, disk.example) == (1, 1, "error: a | b")


def test_the_table_shows_every_row_and_the_sums() -> None:
    lines = markdown(rows_of(TRIALS)).splitlines()
    assert "| a kill | 3 | 2 | 0 | 1 | `other weights` |" in lines
    assert "| a full disk | 1 | 0 | 1 | 0 | `error: a / b` |" in lines
    assert lines[-1] == "| all | 4 | 2 | 1 | 1 | |"


def test_runs_are_added_up() -> None:
    table = Table()
    table.join(rows_of(TRIALS))
    table.join(rows_of(TRIALS[:2]))
    kill, disk = table.rows
    assert (kill.times, kill.held, kill.lost) == (4, 3, 1)
    assert (disk.times, disk.example) == (2, "error: a | b")


def test_a_file_of_rows_is_read_again(tmp_path: Path) -> None:
    rows = rows_of(TRIALS)
    write_json(tmp_path / "rows.json", rows)
    assert read_rows(tmp_path / "rows.json") == rows


def test_the_table_of_a_page_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    put_table(page, rows_of(TRIALS))
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert markdown(rows_of(TRIALS)) in text
