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

from datamodules import Digits, TextClassification
from zoo import MLP, ImageClassifier
from zoo.catalog.contents import recipes_folder
from zoo.nets.googlenet import InceptionBlock
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
        assert {row["seed"] for row in read_table(Path("runs") / name / "trials.csv")} == {0}
        return read_table(Path("runs") / name / "table.csv")

    return run


def pictures(name: str) -> set[str]:
    return {path.name for path in (Path("runs") / name).glob("*.png")}


def test_each_script_has_its_study() -> None:
    assert len(SCRIPTS) >= 5
    for name in SCRIPTS:
        study = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
        assert study["script"] == f"{name}.py"


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("huber --options.steps=many", "option options.steps is 'many'; give a whole number"),
        ("huber --options.shares=0.1", "option options.shares is 0.1; give numbers ([1, 2.5])"),
        ("huber --options.shares=[1.5]", "option options.shares is 1.5; give a number from 0 to 1"),
        ("layer_norm_for_text --options.batch_size=1", "option options.batch_size is 1; give 2"),
        ("softmax_temperature --options.temperatures=[0]", "option temperature is 0.0; give"),
    ],
)
def test_what_a_script_cannot_take_is_told(option: str, said: str, zoo) -> None:
    ended = zoo(f"sweep studies/{option}")
    assert ended.code == 2
    assert said in ended.err
    assert "Traceback" not in ended.err


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


# --- batch norm -----------------------------------------------------------------------------------


def test_batch_norm_keeps_the_spread_that_a_deep_net_loses(run) -> None:
    rows = run("batch_norm_signals", depth=4, width=32, steps=2)
    spread = {(row["norm"], row["layer"]): float(row["spread, first step"] or 0) for row in rows}
    assert spread.keys() == {(norm, n) for norm in ("batch", "none") for n in range(1, 5)}
    rectified = math.sqrt(0.5 - 0.5 / math.pi)  # deviation of max(z, 0), z normal
    for layer in range(1, 5):
        assert spread["batch", layer] == pytest.approx(rectified, rel=0.1)
    for layer in range(2, 5):
        assert spread["none", layer] < 0.6 * spread["none", layer - 1]
    assert pictures("batch_norm_signals") == {"signals.png"}


def test_the_length_of_a_gradient_is_that_of_the_layers_weights() -> None:
    net = MLP(1, 10, image_size=2, widths=[3, 5])
    signals = script("batch_norm_signals").Signals(net)
    for layer in signals.layers:
        layer.weight.grad = torch.full_like(layer.weight, 2.0)
        layer.bias.grad = torch.full_like(layer.bias, 100.0)
    signals.on_before_optimizer_step()
    assert signals.gradient == [pytest.approx([2 * 12**0.5, 2 * 15**0.5])]


@pytest.mark.usefixtures("drawing")
def test_a_net_that_bursts_is_drawn_as_far_as_it_came(tmp_path) -> None:
    study = script("batch_norm_signals")
    runs = {norm: study.train(norm, 0, depth=2, width=8, lr=1e30, steps=30) for norm in study.NORMS}
    assert 0 < len(runs["none"].loss) < 30
    study.save_picture(lambda: study.draw(runs), tmp_path / "signals.png")
    assert (tmp_path / "signals.png").stat().st_size > 10_000


# --- an Inception block ---------------------------------------------------------------------------


def test_right_paddings_keep_height_and_width_and_a_wrong_one_is_told() -> None:
    study = script("inception_branches")
    block = InceptionBlock(3, 4, 2, 6, 2, 8, 5).eval()
    x = torch.zeros(1, 3, 5, 7)
    steps = study.steps_of(block, x)
    assert {name: own[-1].shape for name, own in steps.items()} == {
        "1x1": (4, 5, 7),
        "3x3": (6, 5, 7),
        "5x5": (8, 5, 7),
        "pool": (5, 5, 7),
    }
    assert [(step.layer, step.padding) for step in steps["5x5"]] == [
        ("1x1 convolution", 0),
        ("5x5 convolution", 2),
    ]
    assert steps["pool"][0] == ("3x3 max pool", 1, (3, 5, 7))
    wrong = study.sentence_of_wrong_padding(block, x, 1)
    assert "the 5x5 branch 3x5" in wrong
    assert "padded by (k - 1) / 2" in wrong
    assert study.sentence_of_wrong_padding(block, x, 2) == "a padding of 2 keeps height and width"
    assert block(x).shape == (1, 23, 5, 7)  # as it was


def test_a_1x1_filter_is_drawn_as_a_square_and_others_by_their_strongest_channel() -> None:
    tile = script("inception_branches")._tile
    laid_out = tile(torch.arange(1.0, 6.0).view(5, 1, 1))
    assert laid_out.tolist() == [[1, 2, 3], [4, 5, 0], [0, 0, 0]]
    filters = torch.ones(2, 3, 3)
    filters[1] *= -2
    assert tile(filters).tolist() == [[-2.0] * 3] * 3


@pytest.mark.parametrize(
    ("block", "enters", "padding", "leaves"),
    [("3a", "64 × 8 × 8", 1, "64 × 8 × 8"), ("5b", "128 × 2 × 2", 3, "128 × 2 × 2")],
)
def test_the_branches_of_a_checkpoint_are_drawn(
    block, enters, padding, leaves, zoo, checkpoint
) -> None:
    flags = f"--options.block={block} --options.checkpoint={checkpoint}"
    ended = zoo(f"sweep studies/inception_branches {flags}")
    assert ended.code == 0
    assert f"block {block} is given {enters}\n" in ended.out
    assert f"padded by {padding}: InceptionBlock: from a map of {enters[-1]}x" in ended.out
    rows = read_table(Path("runs/inception_branches/table.csv"))
    assert [row["leaves"] for row in rows if row["branch"] == "all"] == [leaves]
    assert pictures("inception_branches") == {"shapes.png", "branches.png"}


def test_what_has_no_branches_is_refused(zoo, checkpoint, trainer) -> None:
    fitted = trainer(limit_train_batches=1, limit_val_batches=0)
    fitted.fit(ImageClassifier(MLP(1, 10, image_size=8)), Digits())
    fitted.save_checkpoint("mlp.ckpt")
    cases: dict[str, Any] = {
        "--options.block=9z": "option options.block is '9z'; give one of 3a, 3b",
        f"--options.checkpoint={checkpoint} --options.sample=99": "option options.sample is 99",
        "--options.checkpoint=mlp.ckpt": "give a checkpoint of `zoo fit inception`",
    }
    for flags, sentence in cases.items():
        ended = zoo(f"sweep studies/inception_branches {flags}")
        assert ended.code == 2
        assert sentence in ended.err
