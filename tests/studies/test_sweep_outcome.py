"""What a sweep leaves of its trials: rows, means over seeds, the order of a search, the picture."""

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
from matplotlib.figure import Figure
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from zoo.studies import outcome
from zoo.studies.spec import read_spec
from zoo.studies.tables import read_table

CONTENT: dict[str, Any] = {
    "base": "mlp",
    "vary": {"data.batch_size": [1, 16], "model.net.norm": ["batch", "none"]},
    "seeds": [0, 1],
    "metric": "val/acc",
    "mode": "max",
}


def ledger_of(known: list[FrozenTrial], **changes: Any) -> Any:
    spec = read_spec(Path("a_question.yaml"), CONTENT | changes)
    return SimpleNamespace(spec=spec, trials=lambda: known)


def ended(params: dict[str, Any], value: float | None, state: str = "COMPLETE") -> FrozenTrial:
    attrs: dict[str, Any] = {"run": "-".join(map(str, params.values())), "steps": 4, "seconds": 1.5}
    if value is not None:
        attrs["figures"] = {"val/acc": value}
    if state == "FAIL":
        attrs["error"] = "it broke"
    distributions = {
        name: FloatDistribution(0, 10) if name == "lr" else CategoricalDistribution([each])
        for name, each in params.items()
    }
    return optuna.create_trial(
        state=TrialState[state],
        value=value if state == "COMPLETE" else None,
        params=params,
        distributions=distributions,
        user_attrs=attrs,
    )


def grid(*labels: str) -> list[FrozenTrial]:
    """Trials of a grid of two values of each label and two seeds, numbered from 0 in tenths."""
    values = {"batch_size": (1, 16), "norm": ("batch", "none"), "lr": (0.1, 0.2), "seed": (0, 1)}
    combinations = itertools.product(*(values[name] for name in (*labels, "seed")))
    return [
        ended(dict(zip((*labels, "seed"), each, strict=True)), number / 10)
        for number, each in enumerate(combinations)
    ]


def test_means_over_seeds_count_what_failed(tmp_path: Path) -> None:
    trials = grid("batch_size", "norm")
    trials[3] = ended(trials[3].params, None, "FAIL")
    trials.append(optuna.create_trial(state=TrialState.WAITING))
    rows = outcome.write(ledger_of(trials), tmp_path)
    assert rows == [
        {"batch_size": 1, "norm": "batch", "seeds": 2, "val/acc": 0.05, "seconds": 1.5}
        | {"val/acc ± sd": pytest.approx(0.1 / 2**0.5), "seconds ± sd": 0.0},
        {"batch_size": 1, "norm": "none", "seeds": 2, "val/acc": 0.2}
        | {"seconds": 1.5, "seconds ± sd": 0.0, "failed": 1},
        *rows[2:],
    ]
    every = read_table(tmp_path / "trials.csv")
    assert len(every) == 8
    assert every[3]["state"] == "failed"
    assert every[3]["error"] == "it broke"
    assert "it broke" in (tmp_path / "table.md").read_text()


@pytest.mark.parametrize(("mode", "best"), [("max", 0.9), ("min", 0.1)])
def test_a_search_has_its_best_first_and_what_was_ended_early_last(mode: str, best: float) -> None:
    search = {"vary": {"model.lr": {"uniform": [0, 1]}}, "trials": 4, "seeds": [0], "mode": mode}
    trials = [
        ended({"lr": 0.1}, 0.5),
        ended({"lr": 0.2}, 1.0 if mode == "max" else 0.0, "PRUNED"),
        ended({"lr": 0.3}, None, "FAIL"),
        ended({"lr": 0.4}, best),
    ]
    ledger = ledger_of(trials, **search)
    rows = outcome.means_of(ledger.spec, outcome.rows_of(ledger))
    assert [row["lr"] for row in rows] == [0.4, 0.1, 0.2, 0.3]
    assert [row.get("state") for row in rows] == [None, None, "pruned", "failed"]
    found = outcome.best_of(ledger)
    assert found is not None
    assert found.params == {"lr": 0.4}
    assert outcome.best_of(ledger_of(trials[1:3], **search)) is None


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    figures: list[Figure] = []
    monkeypatch.setattr(outcome, "save_picture", lambda draw, path: figures.append(draw()))
    return figures


def test_the_picture_has_a_line_for_each_value_of_the_second(drawn, tmp_path: Path) -> None:
    outcome.write(ledger_of(grid("batch_size", "norm")), tmp_path)
    (axes,) = drawn[0].axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("batch_size", "val/acc")
    assert axes.get_title() == "a question"
    lines = {line.get_label(): line.get_ydata() for line in axes.get_lines()}
    np.testing.assert_allclose(lines["batch"], [0.05, 0.45])
    np.testing.assert_allclose(lines["none"], [0.25, 0.65])


def test_more_that_is_varied_stands_in_the_names_of_the_lines(drawn, tmp_path: Path) -> None:
    vary = CONTENT["vary"] | {"model.lr": [0.1, 0.2]}
    outcome.write(ledger_of(grid("batch_size", "norm", "lr"), vary=vary), tmp_path)
    labels = [line.get_label() for line in drawn[0].axes[0].get_lines()]
    assert labels == ["batch, 0.1", "batch, 0.2", "none, 0.1", "none, 0.2"]


def test_a_heat_map_is_drawn_where_it_is_asked_for(drawn, tmp_path: Path) -> None:
    outcome.write(ledger_of(grid("batch_size", "norm"), picture="heat_map"), tmp_path)
    cells = drawn[0].axes[0].get_images()[0].get_array()
    np.testing.assert_allclose(cells, [[0.05, 0.45], [0.25, 0.65]])


def test_a_search_is_drawn_as_points_on_the_axis_that_it_draws_on(drawn, tmp_path: Path) -> None:
    vary = {"model.lr": {"log_uniform": [0.01, 1.0]}}
    trials = [ended({"lr": value}, value) for value in (0.2, 0.3, 0.4)]
    outcome.write(ledger_of(trials, vary=vary, trials=3, seeds=[0]), tmp_path)
    (axes,) = drawn[0].axes
    assert axes.get_xscale() == "log"
    assert axes.get_lines()[0].get_linestyle() == "None"
    assert not (tmp_path / "trials.csv").exists()


def test_nothing_is_written_before_a_run_has_begun(tmp_path: Path) -> None:
    assert outcome.write(ledger_of([optuna.create_trial(state=TrialState.WAITING)]), tmp_path) == []
    assert list(tmp_path.iterdir()) == []
