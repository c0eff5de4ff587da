"""Which trials there are, who runs which, and what becomes of one that was not finished."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from zoo.errors import UserError
from zoo.studies.ledger import Ledger, TrialFailed, TrialStopped
from zoo.studies.outcome import rows_of
from zoo.studies.spec import Cell, Spec, read_spec

CONTENT: dict[str, Any] = {
    "base": "mlp",
    "vary": {"model.net.norm": ["batch", "none"], "data.batch_size": [16, 64]},
    "seeds": [0],
    "metric": "val/acc",
    "mode": "max",
}
SEARCH = CONTENT | {
    "vary": {"model.lr": {"log_uniform": [0.001, 1.0]}},
    "seeds": [7],
    "trials": 11,
}


def spec_of(**changes: Any) -> Spec:
    return read_spec(Path("mine.yaml"), CONTENT | changes, [], [])


@pytest.fixture
def ledger(tmp_path: Path) -> Any:
    opened: list[Ledger] = []

    def make(spec: Spec | None = None, url: str | None = None) -> Ledger:
        opened.append(Ledger(spec or spec_of(), tmp_path / "mine", url))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def states(ledger: Ledger) -> list[str]:
    return [trial.state.name for trial in ledger.trials()]


def test_each_cell_is_run_once_whoever_asks(ledger) -> None:
    first, second = ledger(), ledger()
    done: list[str] = []

    def run(trial: optuna.Trial, cell: Cell) -> float:
        done.append(cell.label)
        return len(done)

    first.work(run)
    second.work(run)
    assert sorted(done) == sorted(cell.label for cell in spec_of().grid())
    assert states(second) == ["COMPLETE"] * 4
    assert [trial.value for trial in second.trials()] == [1, 2, 3, 4]
    assert [trial.params["norm"] for trial in second.trials()] == ["batch"] * 2 + ["none"] * 2


def test_a_failure_does_not_stop_the_others_and_is_run_again_where_asked(ledger) -> None:
    book = ledger()

    def run(trial: optuna.Trial, cell: Cell) -> float:
        if cell.values["norm"] == "none":
            trial.set_user_attr("error", "it did not like it")
            raise TrialFailed
        return 1.0

    book.work(run)
    assert states(book) == ["COMPLETE"] * 2 + ["FAIL"] * 2
    book.work(run)
    assert len(book.study.trials) == 4
    assert [row.get("error") for row in rows_of(book)] == [None, None, *["it did not like it"] * 2]
    book.run_failed_again()
    book.work(lambda trial, cell: 2.0)
    assert states(book) == ["COMPLETE"] * 4
    assert [trial.value for trial in book.trials()] == [1.0, 1.0, 2.0, 2.0]
    assert [row.get("error") for row in rows_of(book)] == [None] * 4


def test_a_trial_that_was_stopped_is_gone_on_with(ledger) -> None:
    book, seen = ledger(), []

    def stop(trial: optuna.Trial, cell: Cell) -> float:
        trial.set_user_attr("run", "where it lies")
        raise TrialStopped(130)

    with pytest.raises(TrialStopped):
        book.work(stop)
    assert states(book) == ["WAITING"] * 4

    def run(trial: optuna.Trial, cell: Cell) -> float:
        seen.append((cell.label, trial.user_attrs.get("run")))
        return 1.0

    ledger().work(run)
    assert sorted(cell for cell, _ in seen) == sorted(cell.label for cell in spec_of().grid())
    assert [run for cell, run in seen if cell == spec_of().grid()[0].label] == ["where it lies"]
    assert states(book) == ["COMPLETE"] * 4


def _until_killed(folder: Path) -> None:
    def die(trial: optuna.Trial, cell: Cell) -> float:
        trial.set_user_attr("run", "of the dead")
        os.kill(os.getpid(), signal.SIGKILL)
        return 0.0

    Ledger(spec_of(), folder, None).work(die)


def _work(folder: Path, done: Any) -> None:
    def run(trial: optuna.Trial, cell: Cell) -> float:
        done.put((os.getpid(), cell.label))
        return 1.0

    Ledger(spec_of(seeds=[0, 1, 2]), folder, None).work(run)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="a signal of POSIX")
def test_what_a_killed_process_had_is_run_again_at_once(tmp_path: Path, ledger) -> None:
    process = multiprocessing.get_context("fork").Process(
        target=_until_killed, args=(tmp_path / "mine",)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    book, runs = ledger(), []
    assert sorted(states(book)) == ["RUNNING"] + ["WAITING"] * 3
    book.work(lambda trial, cell: float(len(runs.append(trial.user_attrs.get("run")) or runs)))
    assert runs.count("of the dead") == 1
    assert len(runs) == 4
    assert states(book) == ["COMPLETE"] * 4


@pytest.mark.slow
def test_processes_share_a_grid_and_each_cell_is_run_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    done = context.Queue()
    processes = [context.Process(target=_work, args=(tmp_path / "mine", done)) for _ in range(3)]
    for process in processes:
        process.start()
    found = [done.get(timeout=60) for _ in range(12)]
    for process in processes:
        process.join()
    assert done.empty()
    grid = spec_of(seeds=[0, 1, 2]).grid()
    assert sorted(cell for _, cell in found) == sorted(cell.label for cell in grid)
    assert len({pid for pid, _ in found}) > 1


def test_a_cell_that_two_machines_queued_is_run_once(ledger) -> None:
    book = ledger()
    cell = spec_of().grid()[3]
    book.study.enqueue_trial({**cell.values, "seed": cell.seed}, user_attrs={"cell": 3})
    done: list[str] = []
    book.work(lambda trial, cell: float(len(done.append(cell.label) or done)))
    assert len(done) == 4
    assert states(book) == ["COMPLETE"] * 4


@pytest.mark.slow
def test_a_search_draws_what_it_would_have_drawn_undisturbed(tmp_path: Path) -> None:
    spec = read_spec(Path("mine.yaml"), SEARCH, [], [])

    def rates(folder: str, stops_after: list[int]) -> list[Any]:
        for most in [*stops_after, 1000]:
            left = iter(range(most))

            def run(trial: optuna.Trial, cell: Cell, left: Iterator[int] = left) -> float:
                if next(left, None) is None:
                    raise TrialStopped(130)
                return -abs(float(cell.options["model.lr"]) - 0.1)

            book = Ledger(spec, tmp_path / folder, None)
            with suppress(TrialStopped):
                book.work(run)
            book.close()
        return [trial.params["lr"] for trial in book.trials()]

    undisturbed = rates("once", [])
    assert len(set(undisturbed)) == 11
    assert rates("twice", [5, 5]) == undisturbed


def test_pruning_compares_with_the_other_trials(ledger) -> None:
    spec = read_spec(Path("mine.yaml"), SEARCH | {"pruner": "median"}, [], [])
    book, worse = ledger(spec), []

    def run(trial: optuna.Trial, cell: Cell) -> float:
        good = len(worse) < 6
        worse.append(not good)
        trial.report(1.0 if good else 0.0, 1)
        if trial.should_prune():
            raise optuna.TrialPruned
        return 1.0

    book.work(run)
    assert states(book) == ["COMPLETE"] * 6 + ["PRUNED"] * 5


def refusal(make: Callable[[], Ledger]) -> str:
    with pytest.raises(UserError) as refused:
        make()
    return str(refused.value)


def test_a_storage_that_cannot_be_used_is_refused(tmp_path: Path, ledger) -> None:
    (tmp_path / "notes.txt").write_text("no database at all, but a text of some length " * 40)
    for url, words in {
        f"sqlite:///{tmp_path}/no/such/study.db": "give a file in a folder that is there",
        f"sqlite:///{tmp_path}/notes.txt": "cannot be reached: file is not a database",
        "not a url": "cannot be reached: Could not parse",
        "nosuchdb://me:secret@host/x": "cannot be reached",
    }.items():
        sentence = refusal(lambda url=url: ledger(url=url))
        assert sentence.startswith("option --storage is '")
        assert words in sentence
        assert "secret" not in sentence


def test_a_folder_belongs_to_one_storage(tmp_path: Path, ledger) -> None:
    ledger()
    (tmp_path / "mine" / "study.yaml").touch()
    url = f"sqlite:///{tmp_path}/shared.db"
    assert "are of the study in its own study.db" in refusal(lambda: ledger(url=url))
    ledger(url=f"sqlite:///{tmp_path}/mine/study.db")
    (tmp_path / "mine" / "study.db").unlink()
    assert "began with a --storage" in refusal(ledger)


def test_another_study_of_that_name_is_refused(tmp_path: Path, ledger) -> None:
    url = f"sqlite:///{tmp_path}/shared.db"
    ledger(url=url)
    sentence = refusal(lambda: ledger(spec_of(seeds=[1]), url))
    assert "has seeds [0], not [1] as here" in sentence
    other = f"sqlite:///{tmp_path}/other.db"
    study = optuna.create_study(study_name="mine", storage=other)
    study.add_trial(optuna.create_trial(value=1.0, state=TrialState.COMPLETE))
    assert "none of `zoo sweep`" in refusal(lambda: ledger(url=other))
