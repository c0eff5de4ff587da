"""What is left in a run's folder, as far as runs are compared by it: read without torch."""

from __future__ import annotations

import ast
import datetime
import glob
import json
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from datamodules.core.files import nearby
from zoo.catalog.options import as_yaml, options_of
from zoo.catalog.source import ancestry, find
from zoo.cli.config import class_paths, read_layer
from zoo.errors import UserError
from zoo.run.metrics_file import read_metrics
from zoo.run.runs import newest_first, of_training, summary_of

#: Options that only say where a run's files go.
_ASIDE = (
    "wandb",
    "wandb_checkpoint",
    "wandb_group",
    "wandb_notes",
    "wandb_tags",
    "wandb_watch",
    "trainer.default_root_dir",
)
#: How deep below a folder that is named runs are looked for.
_DEPTH = 3


class Figure(NamedTuple):
    """A figure and, where it is known, the interval in which it lies with other samples."""

    value: float
    low: float | None = None
    high: float | None = None


class Run(NamedTuple):
    """A run, finished or not.

    Args:
        folder: Where it is.
        finished: Whether it has come to its end, and has a summary.
        state: The same in words; of an unfinished one with its last figures.
        options: The dotted options of its recipe; one that names a class has the class.
        classes: The dotted name of the class at each option that names one.
        monitor: The figure that chooses the epoch, ``val/acc`` say.
        mode: Whether more or less of it is better, where the recipe says so.
        validation: Figures of validation, of the chosen epoch, or of an unfinished run the last.
        test: Figures of the test.
        epoch: The chosen epoch, counted from 1.
        chosen_step: The optimiser step at its end.
        seconds: That it took; of an unfinished one as far as is known.
        parameters: Of its net.
        made_with: Machine, versions, commit and samples: what else figures may come from.
        rows: Of ``metrics.csv``.
        steps_per_epoch: Optimiser steps of an epoch, as far as is known.
    """

    folder: Path
    finished: bool
    state: str
    options: dict[str, Any]
    classes: dict[str, str]
    monitor: str
    mode: str | None
    validation: dict[str, float]
    test: dict[str, Figure]
    epoch: int | None
    chosen_step: int | None
    seconds: float | None
    parameters: int | None
    made_with: dict[str, Any]
    rows: list[dict[str, str]]
    steps_per_epoch: float | None

    @property
    def figures(self) -> dict[str, float]:
        """All figures under their whole names, ``val/acc`` and ``test/acc`` say."""
        return self.validation | {f"test/{k}": each.value for k, each in self.test.items()}

    @staticmethod
    def number(row: dict[str, str], name: str) -> float | None:
        """Return a value of a row of ``metrics.csv``; None where it is none."""
        try:
            return float(row[name])
        except (KeyError, ValueError):  # the second where a disk has failed
            return None


def find_runs(places: list[str], last: int | None, root: Path) -> list[Path]:
    """Return the folders of the runs that are meant, each once.

    Args:
        places: Folders of runs, folders that hold some, and patterns of such.
        last: How many of them, the newest; None for all, in the order in which they were named.
        root: Where to look if no place is named.

    Raises:
        UserError: If a place is no run and holds none, or a pattern matches nothing.
    """
    found: dict[Path, Path] = {}
    folders = {Path(place).parent for place in places if Path(place).is_dir()}
    for place in places or [str(root)]:
        if Path(place).is_file() and Path(place).parent in folders:
            continue  # of a shell's pattern, as runs/STUDY/*
        for run in _runs_at(place):
            found.setdefault(run.resolve(), run)
    runs = list(found.values())
    return runs if last is None else newest_first(runs)[:last]


def _runs_at(place: str) -> list[Path]:
    path = Path(place).expanduser()
    if path.is_file():
        inside = [each for each in path.absolute().parents[:2] if (each / "recipe.yaml").is_file()]
        hint = f"its run's, {nearby(inside[0])!r}" if inside else "a run's"
        raise UserError(f"{place!r} is a file; name a folder instead: {hint}")
    if path.is_dir():
        if not (path / "recipe.yaml").is_file() and not (below := _below(path)):
            raise UserError(
                f"{place!r} holds no run, as it has no recipe.yaml; name folders that `zoo fit` "
                "has left"
            )
        if not (path / "recipe.yaml").is_file():
            return below
        if not any((path / name).is_file() for name in ("metrics.csv", "summary.json")):
            raise UserError(
                f"the run {place!r} has no metrics yet, neither metrics.csv nor summary.json; "
                "leave it out, or wait for its first epoch"
            )
        return [path]
    if not glob.has_magic(place):
        raise UserError(f"there is no folder {place!r}; name folders that `zoo fit` has left")
    matches = [Path(each) for each in sorted(glob.glob(str(path), recursive=True))]
    runs = [run for match in matches if match.is_dir() for run in _all_of(match)]
    if not runs:
        what = "no run" if matches else "nothing"
        raise UserError(
            f"{place!r} matches {what}; give a pattern of folders of runs, such as 'runs/mlp/*'"
        )
    return runs


def _all_of(folder: Path) -> list[Path]:
    return [folder] if (folder / "recipe.yaml").is_file() else _below(folder)


def _below(folder: Path) -> list[Path]:
    """Return the runs in a folder that train, the oldest first."""
    patterns = ("/".join([*["*"] * depth, "recipe.yaml"]) for depth in range(1, _DEPTH + 1))
    found = {path.parent for pattern in patterns for path in folder.glob(pattern)}
    return newest_first([run for run in found if of_training(run)])[::-1]


def read_run(folder: Path) -> Run:
    """Read what a run has left so far.

    Raises:
        UserError: If its recipe or its summary cannot be read.
    """
    recipe = read_layer(folder / "recipe.yaml")
    options, classes = flattened(recipe)
    summary = _checked(summary_of(folder) or {}, folder)
    metrics = folder / "metrics.csv"
    rows = read_metrics(metrics)[1] if metrics.is_file() else []
    chosen: dict[str, Any] = summary.get("chosen") or {}
    monitor = chosen.get("by") or options.get("checkpoint.monitor") or _monitor(classes)
    at = [row for row in rows if row["step"] == str(chosen.get("step"))] or rows
    latest = _latest(at)
    validation = {k: v for k, v in latest.items() if k.startswith("val/")}
    for name, value in (summary.get("validate") or {}).items():
        validation[f"val/{name}"] = math.nan if value is None else value
    if chosen.get("value") is not None:
        validation[monitor] = chosen["value"]
    seconds = summary.get("fit_seconds", summary.get("seconds", latest.get("time/elapsed_s")))
    return Run(
        folder=folder,
        finished=bool(summary),
        state="finished" if summary else _state(metrics, rows, monitor),
        options={k: v for k, v in options.items() if k not in _ASIDE},
        classes=classes,
        monitor=monitor,
        mode=options.get("checkpoint.mode"),
        validation=validation,
        test=_test_figures(summary),
        epoch=chosen.get("epoch"),
        chosen_step=chosen.get("step"),
        seconds=seconds,
        parameters=summary.get("parameters"),
        made_with=_made_with(summary),
        rows=rows,
        steps_per_epoch=_steps_per_epoch(rows),
    )


def _checked(summary: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return a summary whose figures are figures, as a run leaves it.

    Raises:
        UserError: If it is none.
    """
    sections = {
        name: summary.get(name) or {}
        for name in ("chosen", "validate", "test", "intervals", "versions")
    }
    intervals = sections["intervals"]
    of_figures = (intervals.get("figures") or {}) if isinstance(intervals, dict) else {}
    inner = of_figures.values() if isinstance(of_figures, dict) else [of_figures]
    if all(isinstance(each, dict) for each in (*sections.values(), *inner)):
        chosen = sections["chosen"]
        numbers = [summary.get(name) for name in ("fit_seconds", "seconds", "parameters")]
        numbers += [chosen.get(name) for name in ("value", "epoch", "step")]
        numbers += [*sections["validate"].values(), *sections["test"].values()]
        numbers += [each.get(end) for each in inner for end in ("low", "high")]
        is_named = isinstance(chosen.get("by") or "", str)
        if is_named and all(isinstance(each, int | float | None) for each in numbers):
            return summary
    path = str(folder / "summary.json")
    raise UserError(f"{path!r} is no summary of a run; copy it anew")


def _latest(rows: list[dict[str, str]]) -> dict[str, float]:
    """Return the last number of each column."""
    numbers = ((name, Run.number(row, name)) for row in rows for name in row)
    return {name: value for name, value in numbers if value is not None}


def _test_figures(summary: dict[str, Any]) -> dict[str, Figure]:
    intervals = (summary.get("intervals") or {}).get("figures", {})
    found = {}
    for name, value in (summary.get("test") or {}).items():
        interval = intervals.get(name, {})
        found[name] = Figure(
            math.nan if value is None else value, interval.get("low"), interval.get("high")
        )
    return found


def _made_with(summary: dict[str, Any]) -> dict[str, Any]:
    versions = summary.get("versions") or {}
    known = {name: summary.get(name) for name in ("device", "threads", "commit", "data_mark")}
    return {k: v for k, v in (known | versions).items() if v is not None}


def _state(metrics: Path, rows: list[dict[str, str]], monitor: str) -> str:
    """Return how far an unfinished run is, in words."""
    if not rows:
        return "unfinished, nothing logged yet"
    written = datetime.datetime.fromtimestamp(metrics.stat().st_mtime, datetime.UTC)
    last = _latest(rows)
    parts = [f"unfinished: epoch {last.get('epoch', 0) + 1:.0f}, step {last['step']:.0f}"]
    parts += [
        f"{name} {last[name]:.4g}"
        for name in dict.fromkeys(("train/loss", monitor))
        if name in last
    ]
    return ", ".join([*parts, f"written last {written:%Y-%m-%d %H:%M} UTC"])


def _steps_per_epoch(rows: list[dict[str, str]]) -> float | None:
    """Return the optimiser steps of an epoch, from the last one that came to its end."""
    ends = [row for row in rows if row["epoch"].isdecimal() and "train/loss_epoch" in row]
    return int(ends[-1]["step"]) / (int(ends[-1]["epoch"]) + 1) if ends else None


def _monitor(classes: dict[str, str]) -> str:
    """Return the figure by which a task chooses the epoch, as its source says."""
    found = find(classes.get("model", ""))
    for place in ancestry(found) if found and isinstance(found.node, ast.ClassDef) else []:
        for line in getattr(place.node, "body", []):
            if isinstance(line, ast.AnnAssign) and ast.unparse(line.target) == "monitor":
                return str(ast.literal_eval(line.value)) if line.value else "val/loss"
    return "val/loss"


def flattened(recipe: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return a recipe's options under dotted names, as the command line has them, and its classes.

    Lists of plain values stay together; what is in other lists stands under its number.

    >>> net = {"class_path": "zoo.MLP", "init_args": {"widths": [8, 8]}}
    >>> flattened({"model": {"init_args": {"net": net, "nets": [net]}}, "seed_everything": 0})[0]
    ... # doctest: +NORMALIZE_WHITESPACE
    {'model.net': 'MLP', 'model.net.widths': [8, 8],
     'model.nets[0]': 'MLP', 'model.nets[0].widths': [8, 8], 'seed_everything': 0}
    """
    options: dict[str, Any] = {}
    classes: dict[str, str] = {}
    short = _short_names()
    for name, value in _leaves(recipe, ""):
        if name.endswith(".class_path"):
            name = name.removesuffix(".class_path")
            classes[name] = value
            value = short.get(value, value)
        options[name] = value
    return options, classes


@cache
def _short_names() -> dict[str, str]:
    return {path: name for name, path in class_paths().items()}


def _leaves(node: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            inner = name if key in ("init_args", "dict_kwargs") else f"{name}.{key}".lstrip(".")
            yield from _leaves(value, inner)
    elif isinstance(node, list) and any(isinstance(each, dict | list) for each in node):
        for number, value in enumerate(node):
            yield from _leaves(value, f"{name}[{number}]")
    elif name:
        yield name, node


def differing(runs: list[Run]) -> list[str]:
    """Return the options that are not the same in all runs.

    An option that not all have, as their classes differ, counts where one does not leave it at its
    default: else it says no more than the classes do.
    """
    names = dict.fromkeys(name for run in runs for name in run.options)
    return [name for name in names if _differs(name, runs)]


def _differs(name: str, runs: list[Run]) -> bool:
    own = [run for run in runs if name in run.options]
    if len(own) < len(runs):
        return any(not _is_default(name, run) for run in own)
    return len({_text(run.options[name]) for run in runs}) > 1


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _is_default(name: str, run: Run) -> bool:
    """Return whether an option has its class's default, as far as the class's source is here."""
    owners = [each for each in run.classes if name.startswith(f"{each}.")]
    if not owners:
        return False
    owner = max(owners, key=len)
    option = (options_of(run.classes[owner]) or {}).get(name.removeprefix(f"{owner}."))
    if option is None or option.default is None:
        return False
    return as_yaml(run.options[name]) == option.default
