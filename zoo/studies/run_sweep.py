"""The runs of a sweep, here or in several processes, and what is told at their end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from optuna.trial import TrialState

from datamodules.core.files import nearby
from zoo.cli.request import Part, take_apart
from zoo.run.runs import summary_of
from zoo.studies.ledger import Ledger, TrialStopped
from zoo.studies.outcome import best_of, log_to_wandb, write, write_spec
from zoo.studies.spec import Spec
from zoo.studies.tables import Value, text_table
from zoo.studies.trial import Runner, run_quietly

#: Set in the processes that ``--jobs`` starts, which leave the study's end to the one that did.
_IS_JOB = "ZOO_SWEEP_JOB"
_ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def run_sweep(
    spec: Spec,
    folder: Path,
    storage: str | None,
    argv: list[str],
    *,
    jobs: int,
    retry: bool,
) -> int:
    """Run the trials of a sweep that have not come to their end, and tell what came of all.

    Args:
        spec: The sweep.
        folder: The study's folder.
        storage: An Optuna storage; None for a file in the folder.
        argv: What follows the verb, for processes that are started.
        jobs: How many processes share the trials.
        retry: Whether those that failed are run again.

    Returns:
        The exit code: 1 where trials failed, 128 + a signal's number where one stopped them.

    Raises:
        UserError: If the storage cannot be used.
    """
    is_job = _IS_JOB in os.environ
    ledger = Ledger(spec, folder, storage)
    group = os.environ.get("WANDB_RUN_GROUP")
    os.environ["WANDB_RUN_GROUP"] = group or spec.name  # for loggers of others, too
    try:
        if not is_job:
            write_spec(spec, folder)
            if retry:
                ledger.run_failed_again()
            _tell_done(ledger, folder)
        code = _start(jobs, argv) if jobs > 1 and not is_job else 0
        if code < 128:
            code = _work(ledger, Runner(spec, folder, ledger.size))
        if is_job:
            return code
        rows = write(ledger, folder)
        if code >= 128:
            done = sum(trial.state in _ENDED for trial in ledger.trials())
            then = "goes on" if done < ledger.size else "ends it"
            print(
                f"zoo: stopped with {done} of {ledger.size} runs done; the same command {then}",
                file=sys.stderr,
            )
            return code
        return _end(ledger, folder, rows)
    finally:
        del os.environ["WANDB_RUN_GROUP"]
        if group is not None:
            os.environ["WANDB_RUN_GROUP"] = group
        ledger.close()


def _work(ledger: Ledger, runner: Runner) -> int:
    try:
        ledger.work(runner)
    except TrialStopped as stopped:
        return stopped.code
    except KeyboardInterrupt:  # between two runs, which see to it themselves
        return 128 + signal.SIGINT
    return 0


def _tell_done(ledger: Ledger, folder: Path) -> None:
    """Say which runs are there already."""
    done = sum(trial.state in _ENDED for trial in ledger.trials())
    if done == ledger.size:
        print(f"all {done} runs are there already; remove {nearby(folder)} to have them run again")
    elif done:
        print(f"{done} of {ledger.size} runs are there already", flush=True)


def _start(jobs: int, argv: list[str]) -> int:
    """Have processes do the work; return the highest exit code of them, or that of a signal."""
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, _cores() // jobs))
    environment = os.environ | {_IS_JOB: "1", "OMP_NUM_THREADS": threads}
    command = [sys.executable, "-m", "zoo", "sweep", *argv]
    children = [subprocess.Popen(command, env=environment) for _ in range(jobs)]

    asked: list[int] = []

    def pass_on(signum: int, frame: FrameType | None) -> None:
        asked.append(128 + signum)  # a child that is still importing dies without its own code
        for child in children:
            child.send_signal(signum)

    before: dict[int, Any] = {
        signum: signal.signal(signum, pass_on) for signum in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        codes = [child.wait() for child in children]
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    return max([*codes, *asked])


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _end(ledger: Ledger, folder: Path, rows: list[dict[str, Value]]) -> int:
    """Tell what came of all trials; of a search, test the best once."""
    trials, spec, code = ledger.trials(), ledger.spec, 0
    with ledger.alone():
        if spec.is_search:
            code = _test_winner(ledger, folder)
            if code >= 128:
                return code
            rows = write(ledger, folder)
        ended = [len([t for t in trials if t.state == state]) for state in _ENDED]
        if ledger.study.user_attrs.get("logged") != ended:
            log_to_wandb(ledger, folder, rows)
            ledger.study.set_user_attr("logged", ended)
    print(text_table([{k: v for k, v in row.items() if k not in ("run", "error")} for row in rows]))
    if spec.is_search:
        _tell_search(ledger, folder)
    print(f"study in {nearby(folder)}", flush=True)
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    if failed:
        first = failed[0].user_attrs.get("error", "")
        print(
            f"zoo: {len(failed)} of {ledger.size} runs failed, the first because: {first} "
            "(--retry runs them again)",
            file=sys.stderr,
        )
    return 1 if failed or code else 0


def _test_winner(ledger: Ledger, folder: Path) -> int:
    """Test the best trial of a search, unless one was: the test split is read once.

    Returns:
        The exit code of the test, whose end has been told.
    """
    best = best_of(ledger)
    if best is None or "winner" in ledger.study.user_attrs:
        return 0
    run = folder / best.user_attrs["run"]
    words = ["--config", str(run / "recipe.yaml"), *ledger.spec.trusts]
    words += ["--ckpt_path", str(run / "checkpoints" / "best.ckpt")]
    request = take_apart(["test", *words, "--trainer.default_root_dir", str(folder.parent)])
    tested: list[Path] = []
    request.part = Part(ledger.spec.name, "test", started=tested.append)
    code, error = run_quietly(request)
    figures = (summary_of(tested[0]) or {}).get("test", {}) if code == 0 and tested else {}
    if error is None and figures:
        winner = {"cell": best.user_attrs["cell"], "run": run.name, "test": figures}
        ledger.study.set_user_attr("winner", winner)
    return code


def _tell_search(ledger: Ledger, folder: Path) -> None:
    """Print the best trial, its test, and what ending others early has saved."""
    spec, best = ledger.spec, best_of(ledger)
    if best is None:
        return
    values = ", ".join(f"{label}={best.params[label]:.4g}" if isinstance(best.params[label], float)
                       else f"{label}={best.params[label]}" for label in spec.labels)  # fmt: skip
    print(f"best: {values}: {spec.metric} {best.value:.4f}, in {best.user_attrs['run']}")
    winner = ledger.study.user_attrs.get("winner")
    if winner is not None:
        name = spec.metric.partition("/")[2]
        of = "its" if winner["cell"] == best.user_attrs["cell"] else f"{winner['run']}'s"
        print(f"{of} test, read once: {name} {winner['test'].get(name, float('nan')):.4f}")
    trials = [trial for trial in ledger.trials() if trial.user_attrs.get("steps")]
    planned = sum(trial.user_attrs["planned"] for trial in trials)
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
    if pruned:
        made = sum(trial.user_attrs["steps"] for trial in trials)
        print(
            f"{len(pruned)} of {len(trials)} runs were ended early: "
            f"{made:,} of {planned:,} steps were made"
        )
