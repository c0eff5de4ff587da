"""Where figures go: ``metrics.csv`` in the run folder, and Weights & Biases."""

from __future__ import annotations

import csv
import functools
import os
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import Logger
from lightning_utilities.core.rank_zero import rank_zero_only

from zoo.run import is_first_process

WandbMode = Literal["auto", "online", "offline", "off"]


class MetricsCSV(Logger):
    """One row per optimiser step at which something was logged, on disk as soon as it is logged.

    What is logged at one step lands in one row. A run that goes on in its folder keeps the rows up
    to its checkpoint (Lightning's ``CSVLogger`` deletes the file).

    Args:
        folder: The run folder.
        keep_until: Drops rows of later steps that an earlier session left; None drops all.
    """

    def __init__(self, folder: Path, keep_until: int | None = None) -> None:
        super().__init__()
        self.path = folder / "metrics.csv"
        self.columns = ["epoch", "step"]
        self.rows: list[dict[str, str]] = []
        if keep_until is not None and self.path.is_file() and is_first_process():
            columns, rows = read_metrics(self.path)
            self.rows = [row for row in rows if int(row["step"]) <= keep_until]
            used = {name for row in self.rows for name, value in row.items() if value}
            self.columns = [name for name in columns if name in used | {"epoch", "step"}]
            self._rewrite()

    @property
    def name(self) -> str:
        """The recipe's name."""
        return self.path.parent.parent.name

    @property
    def version(self) -> str:
        """The run's id."""
        return self.path.parent.name

    @property
    def root_dir(self) -> str:
        """The run folder."""
        return str(self.path.parent)

    @property
    def log_dir(self) -> str:
        """The run folder."""
        return str(self.path.parent)

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: ``recipe.yaml`` holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Adds to the row of the step."""
        values = {name: _plain(value) for name, value in metrics.items()}
        values["step"] = str(step or 0)
        values.setdefault("epoch", "")
        same_step = bool(self.rows) and self.rows[-1]["step"] == values["step"]
        new_columns = [name for name in values if name not in self.columns]
        self.columns += new_columns
        if same_step:
            self.rows[-1].update({**values, "epoch": self.rows[-1]["epoch"]})
        else:
            self.rows.append(values)
        if same_step or new_columns or not self.path.is_file():
            self._rewrite()
        else:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self.columns, restval="").writerow(values)

    def _rewrite(self) -> None:
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, restval="")
            writer.writeheader()
            writer.writerows(self.rows)
        os.replace(temporary, self.path)


def _plain(value: Any) -> str:
    return repr(value.item() if hasattr(value, "item") else value)


def read_metrics(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Columns and rows of a ``metrics.csv``; a last line that a kill cut short is left out."""
    text = path.read_text(encoding="utf-8")
    lines = text[: text.rfind("\n") + 1].splitlines()
    reader = csv.DictReader(lines)
    rows = list(reader)
    return list(reader.fieldnames or ["epoch", "step"]), rows


def wandb_mode(asked: WandbMode) -> Literal["online", "offline", "off"]:
    """What ``auto`` means on this machine: online where it is logged in to W&B, else offline."""
    environment = os.environ.get("WANDB_MODE", "")
    if asked != "auto":
        return asked
    if environment in ("disabled", "offline", "dryrun"):
        return "off" if environment == "disabled" else "offline"
    return "online" if _logged_in() else "offline"


def _logged_in() -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    from requests.utils import get_netrc_auth

    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
    return get_netrc_auth(host) is not None


def _guarded(method: Callable[..., None]) -> Callable[..., None]:
    """Lets a W&B failure cost the rest of the W&B run, and nothing else."""

    @functools.wraps(method)
    def call(self: RunWandb, *args: Any, **kwargs: Any) -> None:
        if self.gave_up or not is_first_process():
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            self.give_up(error)

    return call


class RunWandb(WandbLogger):
    """A W&B run that belongs to a run folder, and that cannot stop a training.

    It never asks for a login. Where W&B cannot be reached at the start, the run is kept offline;
    where W&B fails later, training goes on without it.

    Args:
        folder: The run folder; W&B's files go to ``wandb`` in it.
        run_id: The id that all loggers of the run share.
        name: The run's display name.
        mode: ``online`` or ``offline``.
    """

    def __init__(
        self, folder: Path, run_id: str, name: str, mode: Literal["online", "offline"]
    ) -> None:
        import wandb

        os.environ.setdefault("WANDB_DATA_DIR", str(folder / "wandb"))
        os.environ.setdefault("WANDB_CACHE_DIR", str(folder / "wandb" / "cache"))
        self.gave_up = False
        self.mode = mode
        project = os.environ.get("WANDB_PROJECT", "lightning-zoo")
        super().__init__(project=project, save_dir=folder, id=run_id, name=name)
        self._wandb_init.pop("anonymous", None)
        self._wandb_init["mode"] = mode
        self._wandb_init["settings"] = wandb.Settings(init_timeout=10, silent=True, console="off")

    def start(self) -> str:
        """Starts the run, offline if W&B cannot be reached; gives the sentence to print."""
        if self.mode == "online":
            try:
                return f"W&B: {self.experiment.url}"
            except Exception as error:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                self._wandb_init["mode"] = self.mode = "offline"
                self._try_offline()
                return f"W&B: cannot be reached ({reason}); this run is kept in {self._files()}"
        self._try_offline()
        return (
            f"W&B: offline, in {self._files()}; `wandb login` switches it on, "
            "`wandb sync` uploads a run, --wandb off leaves it out"
        )

    def _try_offline(self) -> None:
        try:
            _ = self.experiment
        except Exception as error:
            self.give_up(error)

    def _files(self) -> str:
        return os.path.relpath(Path(str(self.save_dir)) / "wandb")

    def give_up(self, error: Exception) -> None:
        """Goes on without W&B, and says so once."""
        self.gave_up = True
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        print(f"W&B: failed ({reason}); training goes on without it", file=sys.stderr)

    log_metrics = _guarded(WandbLogger.log_metrics)
    log_hyperparams = _guarded(WandbLogger.log_hyperparams)
    log_image = _guarded(WandbLogger.log_image)
    log_table = _guarded(WandbLogger.log_table)

    @_guarded
    def best_in_summary(self, metric: str, mode: Literal["min", "max"]) -> None:
        """Keeps a metric's best value, besides its last, in the run's summary."""
        self.experiment.define_metric(
            metric, step_metric="trainer/global_step", step_sync=True, summary=f"{mode},last"
        )

    @_guarded
    def log_checkpoint(self, path: Path, metadata: dict[str, Any]) -> None:
        """Uploads a checkpoint as the run's model artifact."""
        import wandb

        artifact = wandb.Artifact(f"model-{self.experiment.id}", type="model", metadata=metadata)
        artifact.add_file(str(path), name=path.name)
        self.experiment.log_artifact(artifact, aliases=["best"])

    def save(self) -> None:
        """Nothing to do: W&B writes by itself."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Nothing yet: the test of the best checkpoint follows in the same run."""

    def finish(self, exit_code: int, wait_s: float = 60.0) -> None:
        """Ends the run; what cannot be uploaded within ``wait_s`` seconds stays in its folder."""
        if self.gave_up or self._experiment is None or not is_first_process():
            return
        run = self._experiment

        def end() -> None:
            try:
                run.finish(exit_code=exit_code)
            except Exception as error:
                self.give_up(error)

        worker = threading.Thread(target=end, daemon=True)
        worker.start()
        worker.join(wait_s)
        if worker.is_alive():
            print(
                f"W&B: still uploading after {wait_s:.0f} s; the rest is in {self._files()}, "
                "`wandb sync` uploads it",
                file=sys.stderr,
            )
