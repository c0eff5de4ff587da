"""metrics.csv, which goes on where a run goes on."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.loggers.logger import Logger
from lightning_utilities.core.rank_zero import rank_zero_only

from datamodules.core.files import replaced
from zoo.run.launch import is_first_process
from zoo.run.metrics_file import read_metrics
from zoo.run.names import run_id


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
            used = set().union(*self.rows) - set(self.columns)
            self.columns += [name for name in columns if name in used]
            self._rewrite()

    @property
    def name(self) -> str:
        """The recipe's name."""
        return self.path.parent.parent.name

    @property
    def version(self) -> str:
        """The run's id."""
        return run_id(self.path.parent.name)

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
        """Add to the row of the step."""
        values = {name: _plain(value) for name, value in metrics.items()}
        values["step"] = str(step or 0)
        values.setdefault("epoch", "")
        same_step = bool(self.rows) and self.rows[-1]["step"] == values["step"]
        new_columns = [name for name in values if name not in self.columns]
        self.columns += new_columns
        if same_step:
            self.rows[-1] |= {**values, "epoch": self.rows[-1]["epoch"]}
        else:
            self.rows.append(values)
        if same_step or new_columns or not self.path.is_file():
            self._rewrite()
        else:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self.columns, restval="").writerow(values)

    def _rewrite(self) -> None:
        with replaced(self.path) as path, path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, restval="")
            writer.writeheader()
            writer.writerows(self.rows)


def _plain(value: Any) -> str:
    return repr(value.item() if isinstance(value, torch.Tensor | np.generic) else value)
