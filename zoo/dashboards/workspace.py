"""A workspace of W&B, a saved view, for the runs of a task."""

from __future__ import annotations

from typing import Any

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

from zoo import tasks
from zoo.metrics.names import CALIBRATION
from zoo.report.charts import FORMS
from zoo.tasks.base import Task

#: The task behind each kind of dashboard.
TASKS: dict[str, type[Task]] = {
    "vision": tasks.ImageClassifier,
    "segmentation": tasks.ImageSegmenter,
    "text": tasks.TextClassifier,
    "lm": tasks.LanguageModel,
    "table": tasks.Regressor,
}
#: What all curves are drawn against: W&B's own steps start anew where a run goes on.
X = "trainer/global_step"
#: How far the training's figures at log points are smoothed; validation's are drawn as they are.
_SMOOTHING = 0.6


def workspace_of(
    kind: str, entity: str, project: str, recipe: str | None, seed: int | None
) -> ws.Workspace:
    """Return the workspace of a kind: sections from what its task says that it logs.

    Its runs are the trainings of the task, those of a recipe or study together.

    Args:
        kind: A key of ``TASKS``.
        entity: Whose project.
        project: Where the runs are.
        recipe: Only this recipe's runs.
        seed: Only those with this seed.
    """
    task = TASKS[kind]
    only = [ws.Tags().isin([tag]) for tag in (task.__name__, recipe) if tag]
    only.append(ws.Metric("JobType").isin(["fit", "sweep-trial"]))
    if seed is not None:
        only.append(ws.Config("seed_everything") == seed)
    return ws.Workspace(
        entity=entity,
        project=project,
        name=name_of(kind, recipe, seed),
        sections=_sections(task),
        settings=ws.WorkspaceSettings(x_axis=X, tooltip_number_of_runs="all_runs", max_runs=20),
        runset_settings=ws.RunsetSettings(
            filters=only,
            groupby=[ws.Metric("Group")],
            pinned_columns=[f"summary:test/{_tail(task)}", "run:jobType"],
        ),
    )


def name_of(kind: str, recipe: str | None, seed: int | None) -> str:
    """Return what the view is called, and found again by.

    >>> name_of("lm", "gpt", 0)
    'zoo lm, gpt, seed 0'
    """
    parts = [recipe, None if seed is None else f"seed {seed}"]
    return ", ".join([f"zoo {kind}", *filter(None, parts)])


def _tail(task: type[Task]) -> str:
    return task.monitor.partition("/")[2]


def _sections(task: type[Task]) -> list[ws.Section]:
    logged, monitored = task.logged, _tail(task)
    panels: dict[str, list[Any]] = {"loss": _curves("loss", task)}
    if monitored != "loss":
        panels[monitored] = _curves(monitored, task)
    others = [name for name in logged.val if name not in ("loss", monitored)]
    panels["other figures"] = [panel for name in others for panel in _curves(name, task)]
    panels["test"] = [_bar(f"test/{name}") for name in logged.test if name not in CALIBRATION]
    panels["calibration"] = [
        *(_bar(f"test/{name}") for name in logged.test if name in CALIBRATION),
        *(_picture(name) for name in logged.pictures if name == "reliability"),
    ]
    panels["speed"] = [
        *(_line(f"time/{name}", smoothed=True) for name in logged.time),
        _line("time/elapsed_s"),
        _line("train/lr"),
    ]
    panels["charts"] = [
        wr.CustomChart(
            query={"summaryTable": {"tableKey": f"charts/{name}_table"}},
            chart_name=FORMS[name].spec,
            chart_fields=FORMS[name].fields,
            chart_strings={"title": FORMS[name].title, **FORMS[name].strings},
        )
        for name in logged.charts
    ]
    panels["pictures"] = [_picture(name) for name in logged.pictures if name != "reliability"]
    panels["tables"] = [
        wr.WeavePanelSummaryTable(table_name=name, layout=wr.Layout(w=24, h=12))
        for name in logged.tables
    ]
    # There are such figures where --wandb_watch asks for them.
    panels["layers"] = [
        wr.LinePlot(title=start.replace("_", " "), x=X, metric_regex=f"{start}/.*")
        for start in ("grad_norm", "weight_norm")
    ]
    closed = ("other figures", "layers")
    return [
        ws.Section(name=name, panels=each, is_open=name not in closed, pinned=name == monitored)
        for name, each in panels.items()
        if each
    ]


def _curves(name: str, task: type[Task]) -> list[Any]:
    """Return the curves of a figure: validation's beside the epochs', and the training's alone."""
    trained = [f"train/{each}" for each in task.logged.train if each == name]
    both = [f"val/{name}", *(f"{each}_epoch" for each in trained)]
    panels = [wr.LinePlot(title=name, x=X, y=both, smoothing_type="none")]
    return [*panels, *(_line(each, smoothed=True) for each in trained)]


def _line(name: str, *, smoothed: bool = False) -> Any:
    smoothing: dict[str, Any] = {"smoothing_type": "none"}
    if smoothed:
        smoothing = {
            "smoothing_type": "exponentialTimeWeighted",
            "smoothing_factor": _SMOOTHING,
            "smoothing_show_original": True,
        }
    return wr.LinePlot(title=name, x=X, y=[name], **smoothing)


def _bar(name: str) -> Any:
    return wr.BarPlot(title=name, metrics=[name])


def _picture(name: str) -> Any:
    return wr.MediaBrowser(title=name, media_keys=[f"pictures/{name}"])
