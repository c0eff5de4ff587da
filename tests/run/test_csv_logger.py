"""metrics.csv can be continued from whatever a kill or a failing disk left of it."""

import random
from pathlib import Path
from typing import Any

import pytest

from zoo.run.csv_logger import MetricsCSV
from zoo.run.metrics_file import read_metrics

#: Columns that come later, in one row or in the next, and names that csv has to quote.
LOGGED: list[dict[str, Any]] = [
    {"train/loss": 3.5},
    {"train/loss": 2.5, "time/samples_per_s": 10},
    {"train/loss": 1.5, "time/samples_per_s": 11, 'val/acc, "🎉"': 0.25},
    {"train/loss": 0.5, "time/samples_per_s": 12, 'val/acc, "🎉"': 0.5},
]


def log(logger: MetricsCSV, first: int, rows: list[dict[str, Any]]) -> None:
    for step, row in enumerate(rows, start=first):
        for name, value in row.items():  # one by one, as callbacks do
            logger.log_metrics({"epoch": 0, name: value}, step)


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    log(MetricsCSV(tmp_path), 1, LOGGED)
    return (tmp_path / "metrics.csv").read_bytes()


@pytest.mark.parametrize("kept", range(5))
def test_goes_on_from_any_step_as_if_it_had_never_stopped(
    tmp_path: Path, whole: bytes, kept: int
) -> None:
    # A checkpoint may be older than the columns that came after it.
    log(MetricsCSV(tmp_path, keep_until=kept), kept + 1, LOGGED[kept:])
    assert (tmp_path / "metrics.csv").read_bytes() == whole


def test_goes_on_from_a_file_that_was_cut_anywhere(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "metrics.csv"
    reference = read_metrics(path)[1]
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        lines = max(whole[:length].count(b"\r") - 1, 0)  # the last may be torn
        logger = MetricsCSV(tmp_path, keep_until=4)
        assert logger.rows == reference[:lines]
        log(logger, 5, [{"new": 1}])
        new = {"epoch": "0", "step": "5", "new": "1"}
        assert read_metrics(path)[1] == [*reference[:lines], new]


def test_goes_on_from_a_file_with_wrong_bytes(tmp_path: Path, whole: bytes) -> None:
    draw = random.Random(20261126)
    path = tmp_path / "metrics.csv"
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(draw.randrange(1, 6)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        path.write_bytes(damaged)
        log(MetricsCSV(tmp_path, keep_until=4), 5, [{"train/loss": 0.1, "new": 1}])
        assert read_metrics(path)[1][-1]["new"] == "1"
