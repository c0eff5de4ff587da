"""What becomes of a sweep outside of its runs: stopped there, and told at the end."""

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from zoo.studies import run_sweep
from zoo.studies.ledger import Ledger
from zoo.studies.spec import Cell, read_spec

SEARCH: dict[str, Any] = {
    "base": "mlp",
    "options": {"wandb": "off"},
    "vary": {"model.lr": {"log_uniform": [0.001, 1.0]}},
    "trials": 1,
    "metric": "val/acc",
    "mode": "max",
}


def test_a_stop_before_jobs_listen_for_it_stops_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    class Importing:
        """A process that a signal ends before it has a handler."""

        def __init__(self, *words: Any, **options: Any) -> None:
            self.code = 0

        def send_signal(self, signum: int) -> None:
            self.code = -signum

        def wait(self) -> int:
            signal.raise_signal(signal.SIGINT)
            return self.code

    monkeypatch.setattr(run_sweep.subprocess, "Popen", Importing)
    assert run_sweep._start(2, ["mine"]) == 128 + signal.SIGINT


@pytest.mark.parametrize(("of_test", "code"), [(130, 130), (2, 1), (0, 0)])
def test_a_test_of_the_winner_that_comes_to_no_end_is_told(
    of_test: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(trial: optuna.Trial, cell: Cell) -> float:
        trial.set_user_attr("run", "of_the_best")
        return 0.5

    best = tmp_path / "mine" / "of_the_best"
    best.mkdir(parents=True)
    (best / "recipe.yaml").write_text("{}")
    ledger = Ledger(read_spec(Path("mine.yaml"), SEARCH), tmp_path / "mine", None)
    monkeypatch.setattr(run_sweep, "run_quietly", lambda request: (of_test, None))
    try:
        ledger.work(run)
        assert run_sweep._end(ledger, tmp_path / "mine", []) == code
    finally:
        ledger.close()


def test_what_pruning_saves_is_of_each_runs_own_length(capsys: pytest.CaptureFixture[str]) -> None:
    def trial(state: TrialState, steps: int, planned: int) -> Any:
        attrs = {"run": "a-run", "steps": steps, "planned": planned, "cell": 0}
        value = 0.5 if state == TrialState.COMPLETE else None
        return optuna.create_trial(state=state, value=value, user_attrs=attrs)

    trials = [trial(TrialState.COMPLETE, 40, 40), trial(TrialState.PRUNED, 5, 20)]
    spec = SimpleNamespace(labels=[], metric="val/acc", content={"mode": "max"})
    study = SimpleNamespace(user_attrs={})
    run_sweep._tell_search(SimpleNamespace(spec=spec, study=study, trials=lambda: trials), Path())
    told = "1 of 2 runs were ended early: 45 of 60 steps were made\n"
    assert capsys.readouterr().out.endswith(told)
