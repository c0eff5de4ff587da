"""The packaged studies' own scripts, each in a tiny setting: what mathematics says comes out."""

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml

from datamodules import TextClassification
from zoo.catalog.contents import recipes_folder
from zoo.studies.tables import Value, read_table

FOLDER = recipes_folder() / "studies"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py"))

Row = dict[str, Value]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(zoo: Callable[..., Any]) -> Callable[..., list[Row]]:
    """Runs a study with other options than its file's; gives the rows of its table."""

    def run(name: str, **options: Any) -> list[Row]:
        flags = [f"--options.{option}={value}" for option, value in options.items()]
        ended = zoo(["sweep", f"studies/{name}", "--seeds=[0]", *flags])
        assert ended.code == 0
        assert (Path("runs") / name / "table.md").is_file()
        return read_table(Path("runs") / name / "table.csv")

    return run


def pictures(name: str) -> set[str]:
    return {path.name for path in (Path("runs") / name).glob("*.png")}


def test_each_script_has_its_study() -> None:
    assert len(SCRIPTS) >= 5
    for name in SCRIPTS:
        study = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
        assert study["script"] == f"{name}.py"


# --- Huber ---------------------------------------------------------------------------------------

R = torch.linspace(-5, 5, 20)
SHAPES = {
    "mse": (R**2, 2 * R, torch.full_like(R, 2)),
    "mae": (R.abs(), R.sign(), torch.zeros_like(R)),
    "huber": (
        torch.where(R.abs() < 1, R**2 / 2, R.abs() - 0.5),
        R.clamp(-1, 1),
        (R.abs() < 1).float(),
    ),
    "pseudo_huber": ((1 + R**2).sqrt() - 1, R / (1 + R**2).sqrt(), (1 + R**2) ** -1.5),
    "log_cosh": (R.cosh().log(), R.tanh(), R.cosh() ** -2.0),
}


def test_losses_are_drawn_with_their_derivatives() -> None:
    huber = script("huber")
    assert set(SHAPES) == set(huber.LOSSES)
    for name, shapes in SHAPES.items():
        for found, expected in zip(huber.curves(name, R).values(), shapes, strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=name)
    axes = huber.draw_losses().axes
    assert [panel.get_title() for panel in axes] == ["loss", "gradient", "curvature"]
    assert all(len(panel.get_lines()) == len(SHAPES) for panel in axes)


def test_outliers_are_a_share_of_the_targets_and_mse_alone_follows_few(run) -> None:
    targets = torch.arange(1.0, 41.0)
    spoilt = script("huber").spoilt(targets, 0.25, seed=0)
    assert sorted(set((spoilt / targets).tolist())) == [1, 10]
    assert (spoilt != targets).sum() == 10

    rows = run("huber", shares=[0.0, 0.1], steps=60)
    error = {(row["outliers"], row["loss"]): row["test/mae"] for row in rows}
    assert len(error) == 2 * 5
    assert error[0.1, "mse"] > 2 * error[0.0, "mse"]
    for name in ("mae", "huber", "pseudo_huber", "log_cosh"):
        assert error[0.1, name] < 1.2 * error[0.0, name]
    assert pictures("huber") == {"losses.png", "outliers.png"}


# --- softmax -------------------------------------------------------------------------------------


def test_entropy_goes_from_argmax_to_uniform(run) -> None:
    rows = run("softmax_temperature", temperatures=[0.01, 1, 10000], epochs=1)
    cold, usual, hot = rows[:3]
    assert cold["entropy"] == pytest.approx(0, abs=1e-9)
    assert cold["largest probability"] == pytest.approx(1)
    p = np.exp([3, 2, 1, 0, -1]) / np.exp([3, 2, 1, 0, -1]).sum()
    assert usual["entropy"] == pytest.approx(-(p * np.log(p)).sum())
    assert usual["largest probability"] == pytest.approx(p[0])
    assert hot["entropy"] == pytest.approx(math.log(5), abs=1e-6)
    assert hot["largest probability"] == pytest.approx(1 / 5, abs=1e-3)
    net, scaled = rows[3:]
    assert net["temperature"] == 1
    assert scaled["temperature"] != 1
    assert net["test/acc"] == scaled["test/acc"]
    assert (scaled["entropy"] > net["entropy"]) == (scaled["temperature"] > 1)
    assert pictures("softmax_temperature") == {"softmax.png", "calibration.png"}


def test_a_net_trained_for_too_long_is_too_sure() -> None:
    study = script("softmax_temperature")
    logits, labels, temperature = study.overtrained(0, noise=1.5, epochs=20)
    before, after = (study.figures(logits, labels, by) for by in (1.0, temperature))
    assert temperature > 1
    assert before["largest probability"] > before["test/acc"] + 0.03
    assert after["test/ece"] < before["test/ece"]
    assert after["test/nll"] < before["test/nll"]


def test_the_outputs_of_softmax_sum_to_one_and_those_of_sigmoids_do_not(run) -> None:
    softmax, sigmoid = run("sigmoid_or_softmax", epochs=2)
    assert (softmax["head"], sigmoid["head"]) == ("softmax", "sigmoid")
    for name in ("lowest sum", "mean sum", "highest sum"):
        assert softmax[name] == pytest.approx(1, abs=1e-5)
    assert softmax["several over 0.5"] == 0
    assert sigmoid["lowest sum"] < 0.9
    assert sigmoid["highest sum"] > 1.1
    assert pictures("sigmoid_or_softmax") == {"sums.png"}


# --- cross-entropy fed with probabilities --------------------------------------------------------


def test_no_probabilities_cost_less_than_the_floor() -> None:
    study = script("probabilities_into_cross_entropy")
    for classes in (2, 10):
        floor = study.floor(classes)
        assert floor == pytest.approx(math.log(1 + (classes - 1) / math.e))
        best = F.one_hot(torch.arange(classes), classes).double()
        assert F.cross_entropy(best, torch.arange(classes)).item() == pytest.approx(floor)
        torch.manual_seed(0)
        logits = 10 * torch.randn(2000, classes, dtype=torch.float64)
        losses = F.cross_entropy(logits.softmax(1), logits.argmax(1), reduction="none")
        assert losses.min() >= floor - 1e-12


def test_a_net_that_ends_in_softmax_stays_above_the_floor_and_learns_less(run) -> None:
    logits, probabilities = run("probabilities_into_cross_entropy", epochs=4)
    floor = math.log(1 + 9 / math.e)
    assert probabilities["lowest possible loss"] == pytest.approx(floor)
    assert probabilities["train/loss"] > floor > logits["train/loss"]
    assert probabilities["first gradient norm"] < logits["first gradient norm"] / 3
    assert probabilities["val/acc"] < logits["val/acc"]
    assert pictures("probabilities_into_cross_entropy") == {"curves.png"}


# --- layer norm for text -------------------------------------------------------------------------


@pytest.fixture
def sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TextClassification:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    text = "a film of great warmth and wit that never bores or lectures its audience"
    lines = [f"{text[: 20 + 3 * (k % 20)]} {k},{k % 2}\n" for k in range(60)]
    (tmp_path / "sentences.csv").write_text("text,label\n" + "".join(lines))
    data = TextClassification(path=str(tmp_path / "sentences.csv"), tokenizer="word")
    data.setup("fit")
    return data


def test_only_batch_norm_moves_a_sentence(sentences) -> None:
    rows = script("layer_norm_for_text").movements(sentences, 0, 8, [4, 40])
    moved = {(row["norm"], row["change"]): row["movement"] for row in rows}
    assert len(moved) == 3 * 4
    assert {moved[key] for key in moved if key[0] == "layer"} == {0}
    assert moved["batch", "40 more of padding"] > moved["batch", "4 more of padding"] > 0.01
    for change in ("other sentences beside it", "another last word"):
        assert min(moved["batch", change], moved["batch, without padding", change]) > 1e-3
    assert moved["batch, without padding", "40 more of padding"] < 1e-6


@pytest.mark.slow
def test_layer_norm_for_text_trains_a_transformer_under_both(run) -> None:
    rows = run("layer_norm_for_text", paddings=[4], texts=40, batch_size=8, epochs=1)
    assert [row["norm"] for row in rows if row["epoch"]] == ["batch", "layer"]
    assert pictures("layer_norm_for_text") == {"movement.png", "training.png"}
