"""What W&B shows and keeps besides figures: charts, images with masks, artifacts."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

#: Rows of predictions that W&B shows as a table.
_MOST_ROWS = 10_000


class Masked(NamedTuple):
    """An image of a test and its masks, which W&B lays over it.

    Attributes:
        image: Uint8 ``(H, W)`` or ``(H, W, C)``.
        truth: Each pixel's class, uint8 ``(H, W)``.
        predicted: The same as predicted.
        class_names: What the classes are called.
    """

    image: Any
    truth: Any
    predicted: Any
    class_names: Sequence[str]


@dataclass(frozen=True)
class Chart:
    """A chart in W&B's own form: a table, and what of it is drawn how.

    Attributes:
        spec: The name of W&B's specification.
        title: What stands above it.
        fields: For each field of the specification the table's column.
        rows: The table's rows, in the order of the fields.
        strings: The specification's texts besides the title.
    """

    spec: str
    title: str
    fields: dict[str, str]
    rows: list[list[Any]] = field(default_factory=list)
    strings: dict[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """The table's columns."""
        return list(self.fields.values())


def image(given: Any) -> Any:
    """Return an image, or one with its masks, as W&B takes it."""
    import wandb

    if not isinstance(given, Masked):
        return wandb.Image(given)
    names = dict(enumerate(given.class_names))
    masks = {"truth": given.truth, "prediction": given.predicted}
    laid = {name: {"mask_data": mask, "class_labels": names} for name, mask in masks.items()}
    return wandb.Image(given.image, masks=laid)


def drawn(chart: Chart) -> Any:
    """Return a chart as W&B takes it."""
    import wandb

    table = wandb.Table(columns=[*chart.columns], data=chart.rows)
    return wandb.plot_table(
        chart.spec, table, chart.fields, {"title": chart.title, **chart.strings}
    )


def model(run_id: str, path: Path, metadata: dict[str, Any]) -> Any:
    """Return the artifact of a checkpoint."""
    import wandb

    artifact = wandb.Artifact(f"model-{run_id}", type="model", metadata=metadata)
    artifact.add_file(str(path), name=path.name, skip_cache=True)
    return artifact


def predictions(run_id: str, path: Path) -> Any:
    """Return the artifact of a test's predictions: the csv file, and a table of its first rows."""
    import wandb

    artifact = wandb.Artifact(f"predictions-{run_id}", type="predictions")
    artifact.add_file(str(path), name=path.name, skip_cache=True)
    with path.open(newline="", encoding="utf-8") as file:
        columns, *rows = itertools.islice(csv.reader(file), 1 + _MOST_ROWS)
    artifact.add(wandb.Table(columns=[*columns], data=rows), "predictions")
    return artifact


def data(name: str, facts: dict[str, Any]) -> Any:
    """Return the artifact that stands for a data set: what tells it from others, none of it."""
    import wandb

    artifact = wandb.Artifact(f"data-{name}", type="dataset", metadata=facts)
    with artifact.new_file("data.json", encoding="utf-8") as file:
        json.dump(facts, file, indent=2)
    return artifact
