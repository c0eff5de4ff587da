"""Which runs of a sweep there are, and who does which: an Optuna study that processes share.

A grid is a queue: all its cells wait in the study from the start, and each process takes the next
one. (Optuna's ``GridSampler`` draws a cell when a trial starts, by what it sees of others' then,
and may give one cell to two processes.) A search draws its values as it goes.
"""

from __future__ import annotations

import json
import math
import platform
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from filelock import FileLock, Timeout
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, Trial, TrialState

from datamodules.core.errors import refuse
from datamodules.core.files import nearby
from zoo.errors import UserError
from zoo.studies.spec import Cell, Range, Spec, difference_of
from zoo.studies.tables import Value

#: Seconds between two signs of life of a trial, and after how many without it counts as dead. A
#: process of the same machine is known to be dead at once, by the lock that it held.
_BEAT_S, _DEAD_S = 15, 60
#: Seconds between two looks at the trials of others.
_LOOK_S = 1.0


class TrialFailed(Exception):
    """A trial that came to no figure; the others go on."""


class TrialStopped(Exception):
    """A trial that was asked to stop, and is to be gone on with.

    Args:
        code: The exit code of its run.
    """

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"stopped with {code}")


class Ledger:
    """The trials of a sweep.

    Args:
        spec: The sweep.
        folder: The study's folder.
        url: Optuna's storage; None for an SQLite file in the folder.

    Raises:
        UserError: If the storage cannot be used, or holds another study of that name.
    """

    def __init__(self, spec: Spec, folder: Path, url: str | None) -> None:
        self.spec, self.folder = spec, folder
        self._number: int | None = None  # of the trial that this process runs
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        # Of a retried run, which may report an epoch once more.
        warnings.filterwarnings("ignore", message="The reported value is ignored", module="optuna")
        # Puts a trial that was not finished back to those that wait, with all that it knows.
        self._again = RetryHeartbeatStaleTrialCallback(inherit_intermediate_values=True)
        file, own = None, folder / "study.db"
        began = (folder / "study.yaml").is_file()
        if url is None:
            if began and not own.is_file():
                raise UserError(
                    f"the study in {nearby(folder)!r} began with a --storage; give it again, give "
                    "another trainer.default_root_dir, or remove that folder"
                )
            file, url = own, f"sqlite:///{own}"
        elif began and own.is_file() and url.removeprefix("sqlite:///") != str(own):
            remedy = "leave it out, or give another trainer.default_root_dir"
            where = f"the runs in {nearby(folder)!r} are of the study in its own study.db"
            raise refuse("--storage", _without_password(url), f"{where}: {remedy}")
        elif url.startswith("sqlite:///"):
            file = Path(url.removeprefix("sqlite:///"))
            if not file.parent.is_dir():
                raise refuse("--storage", url, "give a file in a folder that is there")
        folder.mkdir(parents=True, exist_ok=True)
        # SQLite lets two processes read that a trial waits before either takes it.
        lock = folder / ".lock" if file is None else file.with_name(f".{file.name}.lock")
        self._lock = FileLock(lock)
        self._token = folder / ".processes" / uuid.uuid4().hex
        self._life = FileLock(self._token)
        try:
            with self._lock:
                self.study = self._open(url)
                self._add_missing()
        except (OSError, ImportError, ValueError, sqlalchemy.exc.SQLAlchemyError,
                optuna.exceptions.StorageInternalError) as error:  # fmt: skip
            if isinstance(error, UserError):
                raise
            raise refuse("--storage", _without_password(url), _why(error)) from error
        self._token.parent.mkdir(exist_ok=True)
        self._life.acquire()

    def _open(self, url: str) -> optuna.Study:
        options: dict[str, Any] = {}
        if url.startswith("sqlite"):
            options = {"connect_args": {"timeout": 60}}
        storage = RDBStorage(
            url,
            options,
            heartbeat_interval=_BEAT_S,
            grace_period=_DEAD_S,
            heartbeat_stale_trial_callback=self._again,
        )
        upwards = self.spec.content["mode"] == "max"
        pruner = (
            optuna.pruners.MedianPruner()
            if self.spec.content["pruner"] == "median"
            else optuna.pruners.NopPruner()
        )
        study = optuna.create_study(
            storage=storage,
            study_name=self.spec.name,
            direction="maximize" if upwards else "minimize",
            pruner=pruner,
            load_if_exists=True,
        )
        identity = json.loads(json.dumps(self.spec.identity()))
        was = study.user_attrs.get("spec")
        if was is None and study.get_trials(deepcopy=False):
            raise UserError(
                f"the study {self.spec.name!r} in {_without_password(url)!r} is none of "
                "`zoo sweep`; give another --storage, or the study's file another name"
            )
        if was is None:
            study.set_user_attr("spec", identity)
        elif difference := difference_of(was, identity):
            raise UserError(
                f"the study {self.spec.name!r} in {_without_password(url)!r} {difference}; give "
                "what it began with, or another --storage or trainer.default_root_dir"
            )
        return study

    def _add_missing(self) -> None:
        if self.spec.is_search:
            return
        there = {trial.user_attrs.get("cell") for trial in self.study.get_trials(deepcopy=False)}
        for number, cell in enumerate(self.spec.grid()):
            if number not in there:
                params = {**cell.values, "seed": cell.seed}
                self.study.enqueue_trial(params, user_attrs={"cell": number})

    def close(self) -> None:
        """Leave the trials to others."""
        self._life.release()
        with suppress(OSError):
            self._token.unlink()
            self._token.parent.rmdir()  # not while other processes are at work

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes waiting, for what only one of them does."""
        with self._lock:
            yield

    # ------------------------------------------------------------------ what there is

    def trials(self) -> list[FrozenTrial]:
        """Return the trials in their order; of one that was run again, the last."""
        everything = self.study.get_trials(deepcopy=False)
        history = RetryHeartbeatStaleTrialCallback.retry_history
        replaced = {number for trial in everything for number in history(trial)}
        current = [
            trial
            for trial in everything
            if trial.number not in replaced and "double" not in trial.user_attrs
        ]
        return sorted(current, key=lambda t: (t.user_attrs.get("cell", 0), t.number))

    @property
    def size(self) -> int:
        """How many trials there are to be."""
        return self.spec.content["trials"] if self.spec.is_search else len(self.spec.grid())

    def run_failed_again(self) -> None:
        """Put the trials that failed back to those that wait."""
        with self._lock:
            for trial in self.trials():
                if trial.state == TrialState.FAIL:
                    self._again(self.study, trial)

    # ------------------------------------------------------------------ work

    def work(self, run: Callable[[Trial, Cell], float]) -> None:
        """Run what waits until all trials have come to an end, those of other processes too.

        Args:
            run: Trains a cell and returns its figure.

        Raises:
            TrialStopped: If a run was asked to stop.
        """
        said = False
        while True:
            if self._take(run):
                continue
            others = [trial for trial in self.trials() if trial.state == TrialState.RUNNING]
            if not others and not self._is_open():
                return
            if others and not said:
                said = True
                runs = "1 run" if len(others) == 1 else f"{len(others)} runs"
                print(f"waiting for {runs} of other processes", flush=True)
            time.sleep(_LOOK_S)

    def _is_open(self) -> bool:
        trials = self.trials()
        waits = any(trial.state == TrialState.WAITING for trial in trials)
        return waits or (self.spec.is_search and len(trials) < self.size)

    def _take(self, run: Callable[[Trial, Cell], float]) -> bool:
        """Run the next trial; return whether there was one."""

        def objective(trial: Trial) -> float:
            self._number = trial.number
            cell = self._cell_of(trial)
            if self.spec.is_search:
                if "cell" not in trial.user_attrs:
                    trial.set_user_attr("cell", len(self.trials()) - 1)
            elif self._is_double(trial):
                trial.set_user_attr("double", True)
                raise optuna.TrialPruned
            trial.set_user_attr("process", [platform.node(), str(self._token.resolve())])
            self._lock.release()
            return run(trial, cell)

        with self._lock:
            self._find_dead()
            if not self._is_open():
                return False
            self.study.sampler = self._sampler()
            self._number = None
            try:
                self.study.optimize(objective, n_trials=1, catch=(TrialFailed,))
            except (TrialStopped, KeyboardInterrupt):
                if self._number is not None:
                    self._again(self.study, self.study.get_trials(deepcopy=False)[self._number])
                raise
            finally:
                if not self._lock.is_locked:
                    self._lock.acquire()
        return True

    def _cell_of(self, trial: Trial) -> Cell:
        """Return what a trial trains; of a search the sampler draws it."""
        values: dict[str, Value] = {}
        for each in self.spec.varied:
            if isinstance(each.values, Range):
                values[each.label] = _drawn(trial, each.label, each.values)
            else:
                names = [choice.name for choice in each.values]
                values[each.label] = trial.suggest_categorical(each.label, names)
        seed = self.spec.seeds[0]
        if not self.spec.is_search:
            seed = int(trial.suggest_categorical("seed", self.spec.seeds))
        return self.spec.cell(values, seed)

    def _is_double(self, trial: Trial) -> bool:
        """Tell whether two machines put one cell into the storage at the same moment."""
        return any(
            other.user_attrs["cell"] == trial.user_attrs["cell"] and other.number < trial.number
            for other in self.trials()
        )

    def _sampler(self) -> optuna.samplers.BaseSampler:
        """Return the sampler, its draws a function of the seed and of how many it has drawn."""
        seed = self.spec.seeds[0] + 1000 * len(self.trials())
        if self.spec.is_search and self.spec.content["sampler"] == "tpe":
            return optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        return optuna.samplers.RandomSampler(seed=seed)

    def _find_dead(self) -> None:
        """Put trials of processes that are gone back to those that wait."""
        optuna.storages.fail_stale_trials(self.study)
        for trial in self.trials():
            machine, token = trial.user_attrs.get("process", ("", ""))
            if trial.state != TrialState.RUNNING or machine != platform.node():
                continue
            if _is_free(Path(token)):
                Path(token).unlink(missing_ok=True)
                self.study.tell(trial.number, state=TrialState.FAIL)
                self._again(self.study, self.study.get_trials(deepcopy=False)[trial.number])


def _drawn(trial: Trial, label: str, values: Range) -> float:
    if values.kind == "integer":
        return trial.suggest_int(label, int(values.low), int(values.high))
    return trial.suggest_float(label, values.low, values.high, log=values.kind == "log_uniform")


def _is_free(path: Path) -> bool:
    """Tell whether the process that held a lock is gone without having given it back."""
    if not path.is_file():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return False
    lock.release()
    return True


def _without_password(url: str) -> str:
    try:
        return sqlalchemy.engine.make_url(url).render_as_string(hide_password=True)
    except sqlalchemy.exc.ArgumentError:
        return url


def _why(error: Exception) -> str:
    cause = error.__cause__ or error
    reason = str(getattr(cause, "orig", None) or cause).split("\n")[0].strip()
    return f"it cannot be reached: {reason[:200]}"


def finite(value: Any) -> float | None:
    """Return a figure; None for what is none."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
