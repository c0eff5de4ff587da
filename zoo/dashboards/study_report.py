"""A finished sweep as a report of W&B."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import wandb_workspaces.expr as expr
import wandb_workspaces.reports.v2 as wr

from zoo.catalog.contents import entries
from zoo.cli.config import dump_yaml, read_yaml
from zoo.dashboards.workspace import X
from zoo.errors import UserError
from zoo.run.runs import newest_first
from zoo.run.wandb_filing import place_of
from zoo.studies.compare_runs import read_run
from zoo.studies.outcome import PICTURE

#: What of ``study.yaml`` makes its runs' recipes.
_RECIPE = ("base", "options", "vary", "exclude", "seeds", "trials", "sampler", "pruner")


def report_of(folder: Path, entity: str, project: str, app: str) -> wr.Report:
    """Return the report of a study: question, table, picture, curves, recipes, runs.

    Args:
        folder: The study's, where ``zoo sweep`` has left ``study.yaml`` and ``table.md``.
        entity: Whose project.
        project: Where the runs are.
        app: The address of W&B's pages.

    Raises:
        UserError: If it is no folder of a finished sweep, or its runs are in no W&B project.
    """
    spec, table = folder / "study.yaml", folder / "table.md"
    if not spec.is_file() or not table.is_file():
        raise UserError(
            f"{str(folder)!r} is no folder of a sweep that has come to its end: it lacks "
            f"{spec.name if not spec.is_file() else table.name}; give one that `zoo sweep` left"
        )
    runs = [run.parent for run in folder.glob("*/wandb.json")]
    if not runs:
        raise UserError(
            f"no run of the study {str(folder)!r} was logged to W&B; sweep it without --wandb off"
        )
    name, content = folder.name, read_yaml(spec, "study", "base: and vary:")
    metric = str(content.get("metric") or "val/loss")
    varied = [str(option).rpartition(".")[2] for option in content.get("vary") or {}]
    recipe = {key: content[key] for key in _RECIPE if content.get(key) is not None}
    address = "/".join(filter(None, [app, entity, project]))
    return wr.Report(
        entity=entity,
        project=project,
        title=name_of(folder),
        description=_question(name, varied, metric),
        width="fixed",
        blocks=[
            wr.H2(text="Question"),
            wr.P(text=_question(name, varied, metric)),
            wr.H2(text="Table"),
            wr.MarkdownBlock(text=table.read_text(encoding="utf-8")),
            *_picture(folder, name),
            wr.H2(text="Curves"),
            _curves(name, metric, varied),
            wr.H2(text="Recipe"),
            wr.P(text="What all runs have in common, and what differs between them:"),
            wr.CodeBlock(code=dump_yaml(recipe), language="yaml"),
            wr.H2(text="Runs"),
            wr.UnorderedList(items=[_links(run, address) for run in newest_first(runs)]),
        ],
    )


def name_of(folder: Path) -> str:
    """Return what a study's report is called, and found again by."""
    return f"zoo study: {folder.name}"


def _question(name: str, varied: list[str], metric: str) -> str:
    """Return what a packaged study asks; of another one what it varies."""
    for entry in entries("studies"):
        if entry.name.rpartition("/")[2] == name:
            return entry.about
    return f"How does {metric} depend on {', '.join(varied) or 'the seed'}?"


def _only(name: str, *jobs: str) -> list[Any]:
    return [expr.Metric("Group") == name, expr.Metric("JobType").isin(list(jobs))]


def _picture(folder: Path, name: str) -> list[Any]:
    if not (folder / PICTURE).is_file():
        return []
    summary = wr.Runset(name="summary", filters=_only(name, "study"))
    panel = wr.MediaBrowser(media_keys=["picture"], layout=wr.Layout(w=24, h=12))
    return [wr.H2(text="Picture"), wr.PanelGrid(runsets=[summary], panels=[panel])]


def _curves(name: str, metric: str, varied: list[str]) -> Any:
    """Return curves of the runs, of those with the same values together."""
    trials = wr.Runset(
        name="runs",
        filters=_only(name, "sweep-trial"),
        groupby=[f"config.varied.{label}" for label in varied],
    )
    panels = [
        wr.LinePlot(title=each, x=X, y=[each], layout=wr.Layout(w=12, h=8, x=12 * place))
        for place, each in enumerate(dict.fromkeys([metric, "train/loss"]))
    ]
    return wr.PanelGrid(runsets=[trials], panels=panels)


def _links(run: Path, address: str) -> list[Any]:
    """Return a line about a run: its page and, where that was uploaded, its best checkpoint."""
    own = place_of(run)["id"]
    parts: list[Any] = [wr.Link(text=run.name, url=f"{address}/runs/{own}")]
    with suppress(UserError):
        if read_run(run).options.get("wandb_checkpoint") == "true":
            url = f"{address}/artifacts/model/model-{own}"
            parts += [", ", wr.Link(text="best checkpoint", url=url)]
    return parts
