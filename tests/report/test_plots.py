"""The pictures show what they are drawn from."""

import numpy as np
import pytest
import torch

from datamodules.core.plot import DPI, draw_images
from zoo.report.mask_plots import MaskPicture, draw_masks, error_map
from zoo.report.plots import (
    draw_attention,
    draw_confusion,
    draw_curves,
    draw_reliability,
    draw_scatter,
)

LONG = ["actinic keratoses and intraepithelial carcinoma", "basal cell carcinoma", "nevi"]
BINS = np.array([[0, 0, 0], [123456, 0.7, 0.5], [6, 0.9, 1.0]])
NUMBERS = np.random.default_rng(0).normal(152000, 7000, 50)


def rows_of(scale: float) -> list[dict[str, str]]:
    figures = [(str(1000 * k), str(scale * (1 + k / 9))) for k in range(9)]
    return [{"step": step, "train/loss": y, "val/loss": y, "val/acc": y} for step, y in figures]


MASKS = MaskPicture(
    "a name that is longer than what there is room for.png: Dice 0.12",
    np.zeros((8, 12, 1), np.uint8),
    np.tile(np.array([0, 1, 2, 255], np.uint8), (8, 3)),
    np.tile(np.array([0, 1, 1, 0, 2, 0], np.uint8), (8, 2)),
)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: draw_confusion(np.eye(3), LONG),
        lambda: draw_confusion(np.eye(31), [str(k) for k in range(31)]),
        lambda: draw_confusion(np.eye(30), [f"class number {k}" for k in range(30)]),
        lambda: draw_curves(rows_of(1e-4)),
        lambda: draw_curves(rows_of(54321.0), 4000, ["label_smoothing", "cutmix_alpha", "loss"]),
        lambda: draw_reliability({"as trained": (BINS, 0.1), "temperature 12.34": (BINS, 0.2)}),
        lambda: draw_scatter(NUMBERS, NUMBERS[::-1], "median house value in dollars", 0.512),
        lambda: draw_scatter(NUMBERS / 1e9, NUMBERS[::-1] / 1e9, "y", 0.5),
        lambda: draw_attention([(["internationalisation", "a"] * 9, np.ones(18) / 18)] * 3),
        lambda: draw_masks([MASKS] * 2, LONG),
        lambda: draw_masks([MASKS], ["background", "cell"]),
        lambda: draw_images(
            torch.zeros(1, 1, 8, 8, dtype=torch.uint8), ["a\nb"], "a long headline"
        ),
        lambda: draw_images(torch.zeros(9, 3, 8, 8, dtype=torch.uint8), ["a\nb\nc", *"abcdefgh"]),
    ],
)
def test_every_label_lies_within_its_picture(draw) -> None:
    figure = draw()
    figure.set_dpi(DPI)
    box = figure.get_tightbbox()  # inches
    width, height = figure.get_size_inches()
    assert min(box.x0, box.y0, width - box.x1, height - box.y1) >= 0


def test_curves_have_a_panel_for_each_figure_and_mark_what_was_chosen() -> None:
    rows = [
        {"step": "1", "epoch": "0", "train/loss": "2.0", "val/loss": "", "train/loss_epoch": "2"},
        {"step": "2", "epoch": "0", "train/loss": "1.0", "val/loss": "1.5", "val/acc": "0.5"},
        {"step": "4", "epoch": "1", "train/loss": "0.5", "val/loss": "1.8", "val/acc": "0.7"},
    ]
    axes = {a.get_title(): a for a in draw_curves(rows, 4, ["label_smoothing"]).axes}
    assert set(axes) == {"loss", "acc"}
    train, val, chosen = axes["loss"].lines
    assert list(train.get_xdata()) == [1, 2, 4]
    assert list(val.get_ydata()) == [1.5, 1.8]
    assert (list(chosen.get_xdata()), list(chosen.get_ydata())) == ([4], [1.8])
    assert list(axes["acc"].lines[-1].get_ydata()) == [0.7]
    legends = [text.get_text() for text in axes["loss"].get_legend().get_texts()]
    assert [" ".join(text.split()) for text in legends] == [
        "train, with label_smoothing", "val", "chosen 1.8",
    ]  # fmt: skip
    plain = draw_curves(rows).axes[0]
    assert [line.get_label() for line in plain.lines] == ["train", "val"]


def test_confusion_shows_counts_and_shares() -> None:
    counts, shares = draw_confusion(np.array([[3, 1], [0, 0]]), ["cat", "dog"]).axes
    assert {text.get_text() for text in counts.texts} == {"3", "1"}
    assert {text.get_text() for text in shares.texts} == {"0.75", "0.25"}
    assert [label.get_text() for label in counts.get_yticklabels()] == ["cat", "dog"]


@pytest.mark.parametrize("classes", [31, 100])
def test_confusion_of_many_classes_leaves_names_out(classes: int) -> None:
    figure = draw_confusion(np.eye(classes), [str(k) for k in range(classes)])
    assert not figure.axes[0].texts


def test_reliability_shows_accuracy_in_filled_bins() -> None:
    bins = np.array([[0, 0, 0], [4, 0.7, 0.5], [6, 0.9, 1.0]])
    scaled = np.array([[0, 0, 0], [10, 0.6, 0.8], [0, 0, 0]])
    above, below, above_scaled, below_scaled = draw_reliability(
        {"as trained": (bins, 0.123), "temperature 2": (scaled, 0.045)}
    ).axes
    assert [bar.get_height() for bar in above.patches] == [0.5, 1.0]
    assert [bar.get_height() for bar in below.patches] == [0, 4, 6]
    assert "0.123" in above.get_title()
    assert [bar.get_height() for bar in above_scaled.patches] == [0.8]
    assert [bar.get_height() for bar in below_scaled.patches] == [0, 10, 0]
    assert above_scaled.get_title() == "temperature 2: calibration error 0.045"


def test_scatter_shows_predictions_over_targets() -> None:
    points, errors = draw_scatter(np.array([1.0, 4.0]), np.array([2.0, 3.0]), "age", 0.5).axes
    assert list(points.lines[0].get_xdata()) == [2, 3]
    assert list(points.lines[0].get_ydata()) == [1, 4]
    assert points.get_xlabel() == "true age"
    assert sum(bar.get_height() for bar in errors.patches) == 2


def test_errors_have_the_colours_of_their_kinds() -> None:
    truth = np.array([[0, 1, 0, 1, 255, 2]], np.uint8)
    guess = np.array([[0, 1, 1, 0, 1, 1]], np.uint8)
    colours = error_map(np.full((1, 6, 3), 255, np.uint8), truth, guess)[0].tolist()
    pale = [224, 224, 224]
    assert colours == [pale, pale, [255, 60, 60], [60, 120, 255], pale, [255, 80, 255]]
