"""The table that a study leaves."""

import csv
from pathlib import Path

from zoo.studies.tables import read_table, text_table, write_table

ROWS = [{"norm": "batch", "acc": 0.123456}, {"norm": "그룹", "acc": None, "n": 3}]


def test_the_files_hold_the_rows_and_the_csv_all_digits(tmp_path: Path) -> None:
    write_table(tmp_path, ROWS)
    with (tmp_path / "table.csv").open(encoding="utf-8") as file:
        assert list(csv.reader(file)) == [
            ["norm", "acc", "n"],
            ["batch", "0.123456", ""],
            ["그룹", "", "3"],
        ]
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == (
        "| norm | acc | n |\n| --- | --- | --- |\n| batch | 0.1235 | |\n| 그룹 | | 3 |\n"
    )
    assert read_table(tmp_path / "table.csv") == [
        {"norm": "batch", "acc": 0.123456, "n": None},
        {"norm": "그룹", "acc": None, "n": 3},
    ]


def test_the_terminal_shows_columns_below_each_other() -> None:
    assert text_table(ROWS, digits=2) == "norm    acc  n\nbatch  0.12\n그룹         3"
