"""A picture shows the user's words as they are, and never ends a run."""

import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text
from sklearn.metrics import roc_auc_score

from datamodules.core.plot import draw_images
from zoo.report import fonts, mask_plots, plots
from zoo.report.pictures import Pictures
from zoo.tasks.image_segmenter import ShownMask

WORDS = ["$5_to_$9", "$\\frac{", "a_b^{c", "\\alpha$$", "_", "", "two\nlines\x00", "\udcff", "😀"]
ONES = np.ones(len(WORDS))


@pytest.mark.usefixtures("drawing")
@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.draw_confusion(np.eye(len(WORDS)), WORDS),
        lambda: plots.draw_attention([(WORDS, ONES)]),
        lambda: plots.draw_labels(np.ones((3, len(WORDS))), WORDS),
        lambda: plots.draw_roc(np.eye(len(WORDS)), np.eye(len(WORDS)) > 0, WORDS),
        lambda: plots.draw_scatter(ONES, ONES, "".join(WORDS), 0.5),
        lambda: plots.draw_curves([{"step": "1", f"val/{word}": "1"} for word in WORDS]),
    ],
    ids=["confusion", "attention", "labels", "roc", "scatter", "curves"],
)
def test_words_are_drawn_as_they_are(draw: Callable[[], Figure]) -> None:
    with fonts.literal_texts():
        figure = draw()
        figure.savefig(io.BytesIO(), dpi=30)
    drawn = [text for text in figure.findobj(Text) if text.get_text()]
    assert not any(text.get_parse_math() for text in drawn)
    assert any("$5_to_$9" in text.get_text() for text in drawn)


@pytest.mark.usefixtures("drawing")
def test_titles_of_images_are_drawn_as_they_are_wherever_they_are_drawn() -> None:
    figure = draw_images(torch.zeros(len(WORDS), 1, 4, 4, dtype=torch.uint8), WORDS)
    figure.savefig(io.BytesIO(), dpi=30)
    assert "$5_to_$9" in [axes.get_title() for axes in figure.axes]


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.draw_confusion(np.eye(2), ["x" * 100_000, "y"]),
        lambda: plots.draw_attention([(["x" * 100_000] * 10_000, np.ones(10_000))]),
        lambda: plots.draw_labels(np.ones((3, 999)), ["x" * 100_000] * 999),
        lambda: plots.draw_scatter(ONES, ONES, "x" * 100_000, 0.5),
    ],
    ids=["confusion", "attention", "labels", "scatter"],
)
def test_no_text_is_too_long_to_be_drawn(draw: Callable[[], Figure]) -> None:
    width, height = draw().get_size_inches()
    assert max(width, height) < 100


def test_a_picture_that_fails_costs_a_line(
    zoo: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    there: list[bool] = []

    def fail(*_: Any) -> Figure:
        there.extend(path.is_file() for path in Path("runs").rglob("summary.json"))
        raise ValueError("\nno such\n   font")

    for name in ("draw_confusion", "draw_curves"):
        monkeypatch.setattr(plots, name, fail)
    monkeypatch.setattr("zoo.cli.verbs.write_outcomes", fail)
    ended = zoo("fit --config r.yaml --wandb off --model.net MLP")
    assert ended.code == 0
    assert ended.err.splitlines() == [
        f"zoo: {what} (ValueError: no such font)"
        for what in (
            "predictions.csv was not written",
            "curves.png was not drawn",
            "confusion.png was not drawn",
        )
    ]
    assert there == [True, True, True]
    (run,) = Path("runs/r").iterdir()
    assert {path.stem for path in run.glob("*.png")} == {"batch", "reliability", "roc", "wrong"}
    assert "acc" in json.loads((run / "summary.json").read_text())["test"]


def test_curves_have_the_areas_of_the_figures_and_the_worst_have_names() -> None:
    draw = np.random.default_rng(0)
    found = draw.random((60, 12)) < 0.4
    found[:, 3] = True  # no curve
    scores = draw.random((60, 12)) + found * np.linspace(0.1, 0.6, 12)
    figure = plots.draw_roc(scores, found, [f"class {number}" for number in range(12)])
    assert figure is not None
    roc, precision = figure.axes
    areas = {f"class {c}": roc_auc_score(found[:, c], scores[:, c]) for c in range(12) if c != 3}
    worst = sorted(areas, key=areas.__getitem__)[:8]
    told = [text.get_text() for text in roc.get_legend().get_texts()]
    assert sorted(told) == sorted(f"{name}: {areas[name]:.3f}" for name in worst)
    assert len(precision.get_legend().get_texts()) == 8
    assert len(precision.lines) == 11
    assert plots.draw_roc(scores[:, :1], np.ones((60, 1), bool), ["a"]) is None


def test_only_numbered_masks_have_the_names_of_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    titles: list[str] = []
    monkeypatch.setattr(
        mask_plots, "draw_masks", lambda drawn, _: titles.extend(each.title for each in drawn)
    )
    data = SimpleNamespace(names=["a/one.png", "a/two.png"])
    trainer: Any = SimpleNamespace(default_root_dir=tmp_path, datamodule=data, loggers=[])
    module: Any = SimpleNamespace(num_classes=2)
    pixels = torch.rand(1, 4, 4), torch.zeros(4, 4), torch.zeros(4, 4)
    shown = [ShownMask(dice, n, *pixels) for dice, n in ((0.5, 0), (0.25, -1), (math.nan, 1))]
    Pictures(trainer, module)._masks(shown)
    assert titles == ["one.png: Dice 0.50", "image: Dice 0.25", "two.png: no foreground"]


def test_labels_are_counted_the_worst_first() -> None:
    figure = plots.draw_labels(np.array([[10, 2], [12, 8], [20, 4]]), ["good", "bad"])
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["bad  F1 0.33", "good  F1 0.62"]
    widths = [[bar.get_width() for bar in bars] for bars in axes.containers]
    assert widths == [[2, 10], [2, 10], [6, 2]]


def test_a_label_that_is_nowhere_has_no_f1() -> None:
    counts = np.array([[0, 3, 0], [0, 4, 2], [0, 4, 0]])
    (axes,) = plots.draw_labels(counts, ["nowhere", "good", "only said"]).axes
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names == ["only said  F1 0.00", "good  F1 0.75", "nowhere  no F1"]


def matrix(*names: str) -> Callable[[], Figure]:
    return lambda: plots.draw_confusion(np.eye(len(names)), names)


@pytest.mark.usefixtures("drawing")
def test_letters_that_no_font_has_are_told_once_with_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", list)
    ours = fonts.Fonts()
    for _ in range(2):
        assert ours.save(matrix("한글", "b"), tmp_path / "a.png")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("zoo: no installed font has 한글: boxes")  # as in the text
    assert "fonts-noto-cjk" in line
    ours.save(matrix("한글", "\u1d81"), tmp_path / "a.png")  # another one that is lacking
    assert capsys.readouterr().err.startswith("zoo: no installed font has \u1d81: boxes")
    assert ours.save(lambda: None, tmp_path / "none.png") is False
    assert not (tmp_path / "none.png").exists()


@pytest.mark.usefixtures("drawing")
def test_a_font_that_has_the_letters_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    symbols = Path(matplotlib.get_data_path(), "fonts", "ttf", "STIXGeneral.ttf")
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: [str(symbols)])
    letter = "\u1d81"  # which DejaVu Sans lacks
    ours = fonts.Fonts()
    assert fonts.family_with({ord(letter)}) == "STIXGeneral"
    drawn: list[Figure] = []

    def draw() -> Figure:
        drawn.append(matrix(letter, "b")())
        return drawn[-1]

    ours.save(draw, tmp_path / "a.png")
    assert capsys.readouterr().err == ""
    assert ours.families == ["STIXGeneral"]
    assert len(drawn) == 1
