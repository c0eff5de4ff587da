"""Tables at the command line: from a csv file to a file of predictions."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

FIT = (
    "fit --config regression --data CSVTable --data.path t.csv --data.target y --wandb off "
    "--trainer.max_epochs 1 --trainer.accelerator cpu --trainer.enable_progress_bar false"
)


def write(path: str, columns: dict[str, list]) -> None:
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *zip(*columns.values(), strict=True)])


def newest(pattern: str) -> Path:
    return max(Path("runs").glob(pattern))


def predictions() -> list[float]:
    with newest("predict/*/predictions.csv").open(encoding="utf-8") as file:
        return [float(row["y"]) for row in csv.DictReader(file)]


def test_predictions_are_told_apart_far_from_zero(zoo) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(60)
    y = 1.7e9 + 3 * x + rng.standard_normal(60)
    write("t.csv", {"x": x.tolist(), "y": y.tolist()})
    ended = zoo(FIT)
    assert ended.code == 0
    checkpoint = newest("regression/*/checkpoints/best.ckpt")
    assert zoo(f"predict --ckpt_path {checkpoint} --inputs t.csv").code == 0
    predicted = np.array(predictions())
    assert len(set(predicted)) == 60
    figures = json.loads(newest("regression/*/summary.json").read_text())["test"]
    from datamodules import CSVTable

    data = CSVTable("t.csv", target="y")
    data.setup("test")
    rows = data.split("test").rows
    truth, guess = y[rows] - 1.7e9, predicted[rows] - 1.7e9
    assert figures["mse"] == pytest.approx(mean_squared_error(truth, guess), rel=1e-4)
    assert figures["mae"] == pytest.approx(mean_absolute_error(truth, guess), rel=1e-4)
    assert figures["r2"] == pytest.approx(r2_score(truth, guess), abs=1e-4)
    assert f"test mse      {figures['mse']:.4f}" in ended.out


def test_figures_beyond_float32_and_the_span_of_a_target_far_from_zero(zoo) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(60)
    write("t.csv", {"x": x.tolist(), "y": (1e30 * x).tolist()})
    ended = zoo(FIT)
    assert ended.code == 0
    figures = json.loads(newest("regression/*/summary.json").read_text())["test"]
    with newest("regression/*/predictions.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    truth, guess = (np.array([float(row[k]) for row in rows]) for k in ("truth", "prediction"))
    assert figures["mse"] == pytest.approx(mean_squared_error(truth, guess), rel=1e-9)
    assert figures["mse"] > 1e50
    write("t.csv", {"x": x.tolist(), "y": (1e9 + np.arange(60)).tolist()})
    assert "1000000000 to 1000000059, mean 10000000" in zoo(FIT).out
