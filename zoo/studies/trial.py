"""One run of a sweep: a training in this process, which leaves the process as it found it."""

from __future__ import annotations

import gc
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from zoo.cli.request import Part, Request
from zoo.cli.verbs import run
from zoo.errors import UserError
from zoo.run.metrics_file import read_metrics
from zoo.run.runs import summary_of
from zoo.studies.ledger import TrialFailed, TrialStopped, finite
from zoo.studies.spec import Cell, Spec


class Watch(Callback):
    """Tells a search how a training goes, and ends it early where it goes worse than others.

    Args:
        trial: The trial.
        metric: The figure that is told.
    """

    def __init__(self, trial: optuna.Trial, metric: str) -> None:
        self.trial, self.metric = trial, metric
        self.pruned = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note how many steps the whole training has."""
        self.trial.set_user_attr("planned", int(trainer.estimated_stepping_batches))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell the figure of an epoch."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        figure = trainer.callback_metrics.get(self.metric)
        value = finite(float(figure)) if figure is not None else None
        if value is None:
            return
        self.trial.report(value, trainer.current_epoch + 1)
        if self.trial.should_prune():
            self.pruned = trainer.should_stop = True


@dataclass
class Runner:
    """Trains the cells of a sweep.

    Args:
        spec: The sweep.
        folder: The study's folder, in which the runs lie.
        size: How many runs there are.
    """

    spec: Spec
    folder: Path
    size: int

    def __call__(self, trial: optuna.Trial, cell: Cell) -> float:
        """Train a cell, and return the figure of its best epoch.

        Raises:
            TrialFailed: If there is no such figure.
            TrialStopped: If the run was asked to stop.
            optuna.TrialPruned: If it was ended early.
        """
        number = trial.user_attrs["cell"] + 1
        print(f"--- {number} of {self.size}: {cell.label}", flush=True)
        watch = Watch(trial, self.spec.metric)
        error = self._train(trial, cell, watch)
        path = self._folder_of(trial)
        summary = summary_of(path) if path is not None and error is None else None
        if path is not None and summary is not None:
            trial.set_user_attr("figures", figures_of(summary, self.spec.metric))
            trial.set_user_attr("seconds", summary.get("fit_seconds"))
            trial.set_user_attr("steps", steps_of(path))
        value = finite((summary or {}).get(self.spec.metric))
        if value is None:
            # The user has called it by its name in a study.
            error = error and error.replace("option checkpoint.monitor is", "the study's metric is")
            trial.set_user_attr("error", error or f"no {self.spec.metric} that is a number")
            raise TrialFailed
        if watch.pruned:
            raise optuna.TrialPruned
        return value

    def _train(self, trial: optuna.Trial, cell: Cell, watch: Watch) -> str | None:
        """Train, or go on with a training; return the sentence of what ended it in error."""
        more: list[str] = []
        path = self._folder_of(trial)
        if trial.user_attrs.get("error"):  # it is tried again: where it failed it would once more
            path = None
            trial.set_user_attr("error", None)
        if path is not None and summary_of(path) is not None:
            return None  # it was killed after its end
        if path is not None and (last := path / "checkpoints" / "last.ckpt").is_file():
            more = ["--ckpt_path", str(last)]
        request = self.spec.request(cell, *more)
        request.part = Part(
            self.spec.name,
            cell.label,
            cell.values | {"seed": cell.seed},
            tests=self.spec.content["test"],
            callbacks=[watch] if self.spec.is_search else [],
            started=lambda folder: trial.set_user_attr("run", folder.name),
        )
        code, error = run_quietly(request)
        if code >= 128:
            raise TrialStopped(code)
        return error

    def _folder_of(self, trial: optuna.Trial) -> Path | None:
        name = trial.user_attrs.get("run")
        return self.folder / name if name and (self.folder / name).is_dir() else None


def run_quietly(request: Request) -> tuple[int, str | None]:
    """Run a command in this process, without the table of what it understood.

    Args:
        request: The command, a part of a study.

    Returns:
        The exit code, and the sentence of what ended it, if something did.
    """
    assert request.part is not None
    request.quiet = True
    with as_found():
        sys.argv[1:] = request.argv
        try:
            code = run(request)
        except UserError as error:
            print(f"zoo: {error}", file=sys.stderr)
            return 2, str(error)
        except Exception as error:  # one of a net, say: the others can do without it
            traceback.print_exc()
            return 1, f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
    failed = request.part.error or (f"it ended with exit code {code}" if code else None)
    return code, failed


@contextmanager
def as_found() -> Iterator[None]:
    """Put back what a run changes for the whole process: the next one is to start as the first."""
    argv, environment = list(sys.argv), dict(os.environ)
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    try:
        yield
    finally:
        sys.argv[:] = argv
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
        gc.collect()  # a Trainer and its loops hold each other
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def figures_of(summary: dict[str, Any], metric: str) -> dict[str, float]:
    """Return the figure that a run is judged by, and the test's where there is one."""
    name = metric.partition("/")[2]
    found = {metric: summary.get(metric), f"test/{name}": (summary.get("test") or {}).get(name)}
    return {key: value for key, value in found.items() if value is not None}


def steps_of(folder: Path) -> int | None:
    """Return how many optimiser steps a run has made, as far as they were logged."""
    path = folder / "metrics.csv"
    rows = read_metrics(path)[1] if path.is_file() else []
    return int(rows[-1]["step"]) if rows else None
