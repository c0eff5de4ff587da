"""The pictures show what they are drawn from, and no text lies outside of them."""

import numpy as np
import pytest

from datamodules.core.plot import DPI
from zoo.studies.drawing import heat_map, lines

ROWS = [
    {"norm": norm, "batch_size": size, "seed": seed, "val/acc": 0.5 + 0.1 * seed + size / 1000}
    for norm in ("batch", "a norm with a long name")
    for size in (1, 2, 4, 16, 64)
    for seed in (0, 1, 2)
]


def test_a_line_is_the_mean_over_seeds_and_the_band_their_deviation() -> None:
    axes = lines(ROWS, "batch_size", "val/acc", "norm").axes[0]
    first, second = axes.get_lines()
    assert first.get_label() == "batch"
    np.testing.assert_allclose(first.get_xdata(), [1, 2, 4, 16, 64])
    np.testing.assert_allclose(first.get_ydata(), np.array([601, 602, 604, 616, 664]) / 1000)
    band = axes.collections[0].get_paths()[0].vertices
    np.testing.assert_allclose([band[:, 1].min(), band[:, 1].max()], [0.501, 0.764])
    assert axes.get_xscale() == "log"
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "2", "4", "16", "64"]
    assert second.get_label() == "a norm with a long name"


def test_words_stand_beside_each_other_and_rows_without_a_figure_are_left_out() -> None:
    rows = [*ROWS, {"norm": "none", "batch_size": 1, "val/acc": None}]
    axes = lines(rows, "norm", "val/acc").axes[0]
    assert axes.get_xscale() == "linear"
    assert [text.get_text() for text in axes.get_xticklabels()] == [
        "batch",
        "a norm with a long name",
    ]


@pytest.mark.parametrize(
    ("lowest", "highest", "expected"),
    [(0.04, 0.4, ["0.05", "0.1", "0.2", "0.3"]), (0.5, 2e4, ["1", "10", "100", "1000", "10000"])],
)
def test_numbers_of_a_logarithmic_axis_are_written_out(lowest, highest, expected) -> None:
    rows = [{"x": 1, "y": lowest}, {"x": 2, "y": highest}]
    axes = lines(rows, "x", "y", log_y=True).axes[0]
    axes.set_ylim(lowest, highest)
    shown = [*axes.get_yticklabels(), *axes.get_yticklabels(minor=True)]
    within = [text for text in shown if lowest <= text.get_position()[1] <= highest]
    assert sorted(filter(None, (text.get_text() for text in within)), key=float) == expected


def test_points_are_all_runs() -> None:
    axes = lines(ROWS, "batch_size", "val/acc", points=True, log_x=False).axes[0]
    (line,) = axes.get_lines()
    assert axes.get_xscale() == "linear"
    assert list(axes.get_xticks()) != [1, 2, 4, 16, 64]
    assert sorted(line.get_ydata()) == sorted(row["val/acc"] for row in ROWS)


def test_a_heat_map_holds_the_means() -> None:
    axes = heat_map(ROWS, "batch_size", "norm", "val/acc").axes[0]
    values = axes.get_images()[0].get_array()
    np.testing.assert_allclose(values, [np.array([601, 602, 604, 616, 664]) / 1000] * 2)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "draw",
    [
        lambda: lines(ROWS, "batch_size", "val/acc", "norm", title="norm x batch size"),
        lambda: lines(ROWS, "norm", "val/acc"),
        lambda: lines([{"x": 1, "y": 123456789.0}, {"x": 2, "y": -3e-7}], "x", "y"),
        lambda: lines([], "x", "y", "group"),
        lambda: lines([{"x": f"the value of number {k}", "y": k} for k in range(9)], "x", "y"),
        lambda: heat_map(ROWS, "batch_size", "norm", "val/acc"),
        lambda: heat_map(ROWS[:1], "batch_size", "norm", "val/acc"),
    ],
)
def test_every_label_lies_within_its_picture(draw) -> None:
    figure = draw()
    figure.set_dpi(DPI)
    box = figure.get_tightbbox()  # inches
    width, height = figure.get_size_inches()
    assert min(box.x0, box.y0, width - box.x1, height - box.y1) >= 0
