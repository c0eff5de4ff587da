"""The table that a study leaves."""

import csv
from pathlib import Path

import pytest

from zoo.studies.tables import over_seeds, read_table, text_table, write_table

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


def test_figures_are_taken_over_the_seeds_that_have_them() -> None:
    rows = [
        {"norm": "batch", "seed": 0, "acc": 0.5, "run": "a"},
        {"norm": "layer", "seed": 0, "acc": 1, "loss": 2.0},
        {"norm": "batch", "seed": 1, "acc": 0.7, "run": "b"},
        {"norm": "batch", "seed": 2, "acc": None},
    ]
    first, second = over_seeds(rows, ["norm"])
    assert first == {
        "norm": "batch",
        "seeds": 3,
        "acc": pytest.approx(0.6),
        "acc ± sd": pytest.approx(0.1 * 2**0.5),
    }
    assert second == {"norm": "layer", "seeds": 1, "acc": 1, "loss": 2.0}


def test_a_figure_and_its_deviation_share_a_cell(tmp_path: Path) -> None:
    rows = [
        {"norm": "batch", "acc": 0.98765, "acc ± sd": 0.01234, "n": 3},
        {"norm": "layer", "acc": 0.5, "acc ± sd": None, "n": 1},
    ]
    assert text_table(rows) == (
        "norm         acc ± sd  n\nbatch  0.9877 ± 0.012  3\nlayer             0.5  1"
    )
    write_table(tmp_path, rows)
    assert (tmp_path / "table.md").read_text(encoding="utf-8").split("\n")[2] == (
        "| batch | 0.9877 ± 0.012 | 3 |"
    )
    assert read_table(tmp_path / "table.csv") == rows
