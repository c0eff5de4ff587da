"""The verbs that train, try out, validate, test and predict, and how each of them ends."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from datamodules.core.errors import refuse
from datamodules.core.files import nearby
from zoo.callbacks.checkpoints import Checkpoints
from zoo.callbacks.train_log import train_log
from zoo.cli.chat import write_texts
from zoo.cli.cli import ZooCLI
from zoo.cli.messages import is_lightnings, refusal
from zoo.cli.request import Request, build_arguments
from zoo.cli.session import Session, quiet
from zoo.cli.trial import TrialOver
from zoo.errors import (
    OUT_OF_MEMORY,
    Ended,
    Interrupted,
    NonFiniteLoss,
    UserError,
    is_out_of_memory,
)
from zoo.report.json_output import document_of
from zoo.report.pictures import Pictures, costs_a_line
from zoo.report.predictions import worst_images, write_outcomes, write_predictions
from zoo.report.summary import data_mark, test_figures, write_report
from zoo.report.wandb_test import log_test
from zoo.run.launch import is_first_process, is_only_process
from zoo.run.processes import Processes, end_with_parent
from zoo.run.signals import say, stop
from zoo.run.trust import trust
from zoo.tasks.base import Task

#: What a verb that saves no checkpoint says where it is stopped.
_STOPPED = {
    "check": "it was not tried to its end",
    "bench": "it was not timed to its end",
    "validate": "no figures were written",
    "test": "no figures were written",
    "predict": "no predictions were written",
}


def _fit(cli: ZooCLI) -> None:
    """Train, test the best checkpoint once, and report."""
    if is_first_process():
        verb = "goes on in" if cli.folder.resumed else "in"
        print(f"run {verb} {nearby(cli.folder.path)}", flush=True)
    try:
        cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=cli.request.ckpt_path)
        log = train_log(cli.trainer)
        assert log is not None
        saved = next(c for c in cli.trainer.checkpoint_callbacks if isinstance(c, Checkpoints))
        best = saved.best_model_path or saved.last_model_path
        figures: dict[str, float] = {}
        tests = cli.request.part is None or cli.request.part.tests
        if best and tests and not cli.config["trainer"]["fast_dev_run"]:
            cli.trainer.test(cli.model, cli.datamodule, ckpt_path=best, verbose=False)
            figures = test_figures(cli.trainer)
        chosen = {
            "by": saved.monitor,
            "value": saved.best_model_score,
            "epoch": saved.best_epoch,
            "step": saved.best_step,
        }
        _report(
            cli,
            {
                "test": figures,
                "checkpoint": best,
                saved.monitor or "monitor": saved.best_model_score,
                "chosen": chosen,
                "fit_seconds": round(log.seconds, 1),
            },
        )
    finally:
        _draw(cli)
    _upload(cli, Path(best) if best else None, {"test": figures, "chosen": chosen})


def _evaluate(cli: ZooCLI) -> None:
    """Test or validate, and report."""
    verb = cli.request.verb
    run = cli.trainer.test if verb == "test" else cli.trainer.validate
    started = time.monotonic()
    run(cli.model, cli.datamodule, ckpt_path=cli.request.ckpt_path, verbose=False)
    _report(
        cli,
        {
            verb: test_figures(cli.trainer),
            "checkpoint": cli.request.ckpt_path,
            "seconds": round(time.monotonic() - started, 1),
        },
    )
    _draw(cli)
    _upload(cli)


def _check(cli: ZooCLI) -> int:
    """Try the recipe out and say what is wrong; return 1 if something is."""
    try:
        cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=cli.request.ckpt_path)
    except TrialOver:
        print(cli.trial.findings.table(), flush=True)
        understood = cli.telling.understood.plain() if cli.telling.understood else {}
        cli.request.document = {**understood, **asdict(cli.trial.findings)}
    else:
        raise refuse("trainer.limit_train_batches", 0, "give more: there is no batch to try")
    return 1 if cli.trial.findings.problems else 0


def _report(cli: ZooCLI, report: dict[str, Any]) -> None:
    if is_first_process():
        if cli.telling.understood is not None:
            report |= cli.telling.understood.plain()
        report["precision"] = cli.trainer.precision
        report["data_mark"] = data_mark(cli.datamodule)
        task = cli.model if report.get("test") and isinstance(cli.model, Task) else None
        intervals = task.test_intervals if task is not None else None
        worst = None
        if task is not None:
            with costs_a_line("the line of worst images", "written"):
                worst = worst_images(task.test_artifacts, cli.datamodule)
        seed = cli.config["seed_everything"]
        write_report(cli.folder, report, cli.cost, seed, intervals, worst)
        if task is not None:
            with costs_a_line("predictions.csv", "written"):
                write_outcomes(cli.folder, task.test_artifacts, cli.datamodule)


def _draw(cli: ZooCLI) -> None:
    """Draw what there is to see, once all else is safe."""
    if is_first_process():
        pictures = Pictures(cli.trainer, cli.model)
        if cli.request.verb == "fit":
            pictures.draw_training()
        pictures.draw_test()
        log_test(cli.trainer, cli.model)


def _upload(
    cli: ZooCLI, best: Path | None = None, metadata: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Give W&B what stands for the data, the test's predictions, and the best checkpoint.

    Args:
        cli: What was run.
        best: The checkpoint, uploaded where that is asked for.
        metadata: What is known of it; of the test's figures one names it.
    """
    wandb = cli.session.wandb
    if wandb is None or not is_first_process():
        return
    if mark := data_mark(cli.datamodule):
        understood = cli.telling.understood.plain() if cli.telling.understood else {}
        wandb.log_data(type(cli.datamodule).__name__, {"mark": mark, **understood.get("data", {})})
    predictions = cli.folder.path / "predictions.csv"
    if predictions.is_file():
        wandb.log_predictions(predictions)
    if best is not None and cli.config["wandb_checkpoint"]:
        monitor = str((metadata.get("chosen") or {}).get("by") or "")
        name = monitor.partition("/")[2]
        value = (metadata.get("test") or {}).get(name)
        alias = None if value is None else f"test-{name}-{value:.4f}"
        wandb.log_checkpoint(best, {"recipe": cli.request.name, **metadata}, alias)


def _predict(cli: ZooCLI) -> int:
    """Predict, print a line for each input and write ``predictions.csv``.

    A language model writes on instead; see :func:`~zoo.cli.chat.write_texts`.

    Returns:
        The exit code: 1 where an input could not be read.
    """
    model, data = cli.predictor, cli.datamodule
    if model.writes:
        write_texts(cli.folder, model, data)
        return 0
    limit = cli.config["trainer"]["limit_predict_batches"]
    unread = write_predictions(cli.folder, [*model.batches(data, limit)], data)
    if unread is not None:
        print(f"zoo: {unread}", file=sys.stderr)
    return int(unread is not None)


def _run_verb(cli: ZooCLI) -> int:
    """Run what was built; return the exit code.

    Raises:
        UserError: If something in it is the user's to put right.
    """
    verbs: dict[str, Callable[[ZooCLI], int | None]] = {
        "fit": _fit,
        "check": _check,
        "validate": _evaluate,
        "test": _evaluate,
        "predict": _predict,
    }
    try:
        code = verbs[cli.request.verb](cli) or 0
        if cli.request.as_json and cli.request.document is None and is_first_process():
            cli.request.document = document_of(
                cli.request.verb, cli.folder.path, cli.request.ckpt_path
            )
        return code
    except (ValueError, MisconfigurationException) as error:
        if not isinstance(error, UserError) and not is_lightnings(error):
            raise
        raise refusal(error, cli.config) from error


def _work(request: Request, session: Session) -> int:
    """Build what the request names, and run its verb."""
    return _run_verb(ZooCLI(request, build_arguments(request), session))


def run(request: Request, work: Callable[[Request, Session], int] = _work) -> int:
    """Run a verb.

    Args:
        request: The command line, taken apart.
        work: What the verb does; gives the exit code.

    Returns:
        The exit code.

    Raises:
        UserError: If something is the user's to put right.
    """
    quiet(described=not request.quiet)
    # Gradients that fade over a long text end in numbers below 1e-38, which a CPU is very slow at.
    torch.set_flush_denormal(True)
    session = Session()
    code, follows, lost = 1, False, None
    stop.listen()
    stop.unsaved = _STOPPED.get(request.verb, stop.unsaved)
    end_with_parent()
    sys.argv[0] = sys.argv[0] or "zoo"
    try:
        if (request.verb == "predict" or request.tries) and not is_only_process():
            return 0  # see ZooCLI.instantiate_trainer
        trust(request.trust)
        try:
            found = work(request, session)
        except RuntimeError as error:
            stop.ending = True
            if Processes.of_run is not None:
                Processes.of_run.explain(error)
            raise
        lost = session.why_unwritten()
        code = 1 if lost else found
    except Ended as end:
        code, follows = end.code, not isinstance(end, Interrupted)
        if follows or _is_speaker():
            say(end)
    except Exception as error:
        stop.ending = True
        lost = session.why_unwritten(error)
        code = 2 if isinstance(error, UserError) and lost is None else 1
        if not _is_speaker():
            return code
        sentence = lost or _sentence(error, session)
        lost = None
        if sentence is None and code == 1 and Processes.of_run is not None:
            say(Ended(f"{Processes.of_run.name} failed, and all others end with it"))
        if sentence is None:
            raise
        _tell(request, sentence)
    finally:
        session.finish(code, follows=follows)
        stop.release()
    if lost:
        _tell(request, lost)
    return code


def _tell(request: Request, sentence: str) -> None:
    print(f"zoo: {sentence}", file=sys.stderr)
    if request.part is not None:
        request.part.error = sentence


def _is_speaker() -> bool:
    return Processes.of_run is None or Processes.of_run.is_speaker()


def _sentence(error: Exception, session: Session) -> str | None:
    """Return what is said of an error that is neither a bug nor the user's to put right."""
    if isinstance(error, UserError):
        return None
    if isinstance(error, NonFiniteLoss):
        return f"{error}; {session.advice(error)}"
    return OUT_OF_MEMORY if is_out_of_memory(error) else None
