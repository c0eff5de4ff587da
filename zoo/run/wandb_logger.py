"""Where figures go: ``metrics.csv`` in the run folder, and Weights & Biases."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import DummyLogger
from lightning_utilities.core.rank_zero import rank_zero_only

from datamodules.core.files import nearby
from zoo.run import wandb_media as media
from zoo.run.launch import is_first_process
from zoo.run.metrics_file import read_metrics
from zoo.run.wandb_filing import Filing, place_of, write_place
from zoo.run.wandb_login import WandbMode, mode_of, sentence, within
from zoo.run.wandb_sync import differ, mark_sent, recipe_of

#: Seconds that the server has to answer that the data are an input of the run.
_INPUT_S = 20


def _guarded(method: Callable[..., None]) -> Callable[..., None]:
    """Let a W&B failure cost what was to be logged, or the rest of the W&B run; nothing else."""

    @functools.wraps(method)
    def call(self: RunWandb, *args: Any, **kwargs: Any) -> None:
        if not self.active or not is_first_process():
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            self.complain(error)

    return call


class RunWandb(WandbLogger):
    """A W&B run that belongs to a run folder, and that cannot stop a training.

    It never asks for a login. Where W&B cannot be reached at the start, the run is kept offline;
    where W&B fails later, training goes on without it.

    Args:
        folder: The run folder; W&B's files go to ``wandb`` in it.
        run_id: The id that all loggers of the run share. The W&B run has another one where
            ``WANDB_RUN_ID`` says so, as W&B's agent does; a run that goes on keeps its own.
        name: The run's display name.
        asked: ``online``, ``offline``, or ``auto``: what ``WANDB_MODE`` or ``wandb offline`` say,
            else online where this machine is logged in.
        upload_s: Seconds that the end of the run waits for uploads; ``WANDB_FINISH_TIMEOUT`` wins.
        filing: What the run is filed under.
    """

    def __init__(
        self,
        folder: Path,
        run_id: str,
        name: str,
        asked: WandbMode,
        upload_s: float = 60.0,
        filing: Filing | None = None,
    ) -> None:
        self.active = asked != "off"
        self.asked = asked
        self.upload_s = upload_s
        self._run: Any = None
        self._run_mode = ""
        self._own_id = run_id
        self._before: dict[str, Any] = {}
        self._stand_in: Any = None
        self._said: set[str] = set()
        self._best: dict[str, Literal["min", "max"]] = {}
        name = os.environ.get("WANDB_NAME") or name
        settings = (filing or Filing()).settings()
        super().__init__(project=settings["project"], save_dir=folder, id=run_id, name=name)
        self._identity: dict[str, Any] = {
            **settings,
            "id": place_of(folder).get("id") or os.environ.get("WANDB_RUN_ID") or run_id,
            "name": name,
            "dir": str(folder),
        }
        own = {
            "WANDB_INIT_TIMEOUT": "10",
            "WANDB_FINISH_TIMEOUT": str(upload_s),
            "WANDB_FINISH_TIMEOUT_RAISES": "true",
            "WANDB_CONSOLE": "off",
            "WANDB_SILENT": "true",
            # Else copies of tables and artifacts go to the home directory.
            "WANDB_DATA_DIR": str(folder / "wandb"),
            "WANDB_CACHE_DIR": str(folder / "wandb" / "cache"),
            # W&B's reports about itself: they hold up the end of a run without a network.
            "WANDB_ERROR_REPORTING": "false",
        }
        self._environment = {name: own[name] for name in own if name not in os.environ}

    @property
    def experiment(self) -> Any:
        """W&B's run; one that takes everything and keeps nothing where there is none."""
        return self._run or self._stand_in or DummyLogger().experiment

    def start(self) -> None:
        """Start the run, offline if it cannot be online, and say where it goes."""
        os.environ.update(self._environment)
        try:
            self.upload_s = float(os.environ["WANDB_FINISH_TIMEOUT"]) or 1e6  # 0: no limit
            mode, why = mode_of(self.asked)
            if mode == "online":
                try:
                    self._open(mode)
                    print(f"W&B: {self.experiment.url}")
                    return
                except Exception as error:
                    why = f"the server refused: {sentence(error)}"
                    self._stop_process()  # it keeps the run's id to itself
            if mode == "disabled":
                self._end(exit_code=0, seconds=0.0)
                self._put_stand_in()
                return
            self._open("offline")
        except Exception as error:
            self.give_up(error)
            return
        hint = "; `wandb login` switches it on, --wandb off leaves it out"
        print(
            f"W&B: offline ({why}); {self._sync()} uploads the run"
            f"{hint if why == 'not logged in' else ''}"
        )

    def _open(self, mode: Literal["online", "offline"]) -> None:
        import wandb

        folder = Path(str(self.save_dir))
        self._run_mode = mode
        self._run = wandb.init(**self._identity, resume="allow", mode=mode)
        # What W&B's agent starts may be there already, with the values that it chose.
        if self._run.resumed and not place_of(folder) and "WANDB_SWEEP_ID" not in os.environ:
            self._before = dict(self._run.config)
        write_place(folder, self._run.entity, self._run.project, self._run.id)
        self._run.define_metric("trainer/global_step")
        self._run.define_metric("*", step_metric="trainer/global_step", step_sync=True)

    def _sync(self) -> str:
        """Return the command that uploads the run's files."""
        return f"`zoo sync {nearby(str(self.save_dir))}`"

    def complain(self, error: Exception) -> None:
        """Say what could not be logged, and give up if nothing can be."""
        try:
            self.experiment.log({}, commit=False)  # makes no row
        except Exception:
            self.give_up(error)
        else:
            told = f"W&B: something is left out ({sentence(error)})"
            if told not in self._said:  # every step may fail alike
                self._said.add(told)
                print(told, file=sys.stderr)

    def give_up(self, error: Exception) -> None:
        """Go on without W&B, and say so once."""
        print(f"W&B: failed ({sentence(error)}); training goes on without it", file=sys.stderr)
        self._end(exit_code=1, seconds=5.0)
        self._put_stand_in()

    def _put_stand_in(self) -> None:
        """Let callbacks that talk to W&B's run, or to ``wandb`` itself, go on undisturbed."""
        with contextlib.suppress(Exception):
            import wandb

            self._stand_in = wandb.init(mode="disabled")

    log_metrics = _guarded(WandbLogger.log_metrics)

    @_guarded
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Log a configuration; a run that is there with another recipe is left alone."""
        config = params if isinstance(params, dict) else vars(params)
        if differ(self._before, config):
            taken, there = self._run.id, recipe_of(self._before)
            self._run.finish()
            self._identity["id"] = self._own_id
            (Path(str(self.save_dir)) / "wandb.json").unlink()
            self._open("online")
            print(
                f"W&B: the run {taken!r} has another recipe ({there}), so this one goes to "
                f"{self._run.url}; unset WANDB_RUN_ID",
                file=sys.stderr,
            )
        self._before = {}
        super().log_hyperparams(params)

    log_image = _guarded(WandbLogger.log_image)
    log_table = _guarded(WandbLogger.log_table)
    watch = _guarded(WandbLogger.watch)

    @_guarded
    def best_in_summary(self, metric: str, mode: Literal["min", "max"]) -> None:
        """Keep a metric's best value, besides its last, in the run's summary."""
        self._best[metric] = mode
        self.experiment.define_metric(
            metric, step_metric="trainer/global_step", step_sync=True, summary=f"{mode},last"
        )

    @_guarded
    def _write_best(self) -> None:
        # W&B by itself knows only of the values since the run was last resumed.
        path = Path(str(self.save_dir)) / "metrics.csv"
        rows = read_metrics(path)[1] if path.is_file() else []
        for metric, mode in self._best.items():
            if values := [float(row[metric]) for row in rows if row.get(metric)]:
                best = max(values) if mode == "max" else min(values)
                self.experiment.summary[metric] = {mode: best, "last": values[-1]}

    @_guarded
    def log_gallery(
        self, key: str, images: Sequence[Any], columns: list[str], rows: list[list[Any]], step: int
    ) -> None:
        """Log a table with an image at the start of each row.

        Args:
            key: The table's name.
            images: Of each row ``(H, W)`` or ``(H, W, C)``, or an image with its masks.
            columns: The names of the other columns.
            rows: Their values.
            step: The optimiser step that they are of.
        """
        data = [[media.image(each), *row] for each, row in zip(images, rows, strict=True)]
        super().log_table(key, columns=["image", *columns], data=data, step=step)

    @_guarded
    def log_rows(self, key: str, columns: list[str], rows: list[list[Any]], step: int) -> None:
        """Log a table."""
        super().log_table(key, columns=columns, data=rows, step=step)

    @_guarded
    def log_chart(self, key: str, chart: media.Chart, step: int) -> None:
        """Log a chart that W&B draws."""
        super().log_metrics({key: media.drawn(chart)}, step=step)

    @_guarded
    def log_checkpoint(
        self, path: Path, metadata: dict[str, Any], figure: str | None = None
    ) -> None:
        """Upload a checkpoint as the run's model artifact, ``best``.

        Args:
            path: Its file.
            metadata: What is known of it.
            figure: A second alias, such as ``test-acc-0.9823``.
        """
        artifact = media.model(self.experiment.id, path, metadata)
        self.experiment.log_artifact(artifact, aliases=["best", *([figure] if figure else [])])

    @_guarded
    def log_predictions(self, path: Path) -> None:
        """Upload the predictions of a test, a csv file."""
        self.experiment.log_artifact(media.predictions(self.experiment.id, path))

    @_guarded
    def log_data(self, name: str, facts: dict[str, Any]) -> None:
        """Note the data as what the run was made from; none of them are uploaded.

        Args:
            name: The data module's.
            facts: What tells the data from others, as plain data.
        """
        artifact = media.data(name, facts)
        if self._run_mode == "online":
            within(_INPUT_S, functools.partial(self.experiment.use_artifact, artifact))
        else:  # only the server knows inputs of a run
            self.experiment.log_artifact(artifact)

    def save(self) -> None:
        """Nothing to do: W&B writes by itself."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Nothing yet: the test of the best checkpoint follows in the same run."""

    def finish(self, exit_code: int) -> None:
        """End the run; what is not uploaded in time stays in its folder."""
        self._write_best()
        if self._stand_in is not None:
            self._stand_in.finish()
            self._stand_in = None
        if not self.active or self._run is None:
            return
        url, segment = self._run.url, Path(self._run.dir).parent
        failure = self._end(exit_code, self.upload_s + 10)
        if isinstance(failure, TimeoutError):
            print(
                f"W&B: not everything was uploaded within {self.upload_s:.0f} s; "
                f"{self._sync()} says how to send the rest",
                file=sys.stderr,
            )
        elif failure is not None:
            print(f"W&B: failed at its end ({sentence(failure)})", file=sys.stderr)
        elif url:
            mark_sent(segment)
            print(f"W&B: {url}")

    def _end(self, exit_code: int, seconds: float) -> Exception | None:
        """End the run and W&B's process within a time; return what went wrong."""
        self.active = False
        failure = None
        try:
            if self._run is not None:
                within(seconds, functools.partial(self._run.finish, exit_code=exit_code))
        except Exception as error:
            failure = error
        self._run = None
        self._stop_process()
        for name in self._environment:
            os.environ.pop(name, None)
        return failure

    def _stop_process(self) -> None:
        """Stop W&B's process.

        Left to itself, W&B does that when Python exits: it waits without a limit, or prints a
        traceback where the process is dead already.
        """
        with contextlib.suppress(Exception, SystemExit):
            import wandb

            within(5, wandb.teardown)


def active_wandb(trainer: Trainer) -> list[RunWandb]:
    """Return the trainer's W&B runs that are written."""
    loggers = [logger for logger in trainer.loggers if isinstance(logger, RunWandb)]
    return [logger for logger in loggers if logger.active]
