"""``zoo dashboard``: a saved view of W&B for the runs of a kind, or the report of a sweep."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datamodules.core.errors import one_of, refuse
from datamodules.core.files import nearby, replaced
from zoo.cli.config import read_layer, value_of
from zoo.cli.verb_parser import VerbParser
from zoo.errors import UserError
from zoo.run.wandb_filing import PROJECT, place_of

if TYPE_CHECKING:
    from zoo.dashboards.server import View

#: The kinds, and recipes whose runs they are for.
KINDS = {
    "vision": "resnet",
    "segmentation": "unet",
    "text": "gru",
    "lm": "gpt",
    "table": "regression",
    "study": None,
}
#: What no name of a project may hold, and how long it may be.
_NOT_IN_PROJECTS, _LONGEST_PROJECT = "/\\#?%:", 128


def dashboard(argv: list[str]) -> int:
    """Run ``zoo dashboard``.

    Args:
        argv: What follows the verb.

    Returns:
        The exit code.

    Raises:
        UserError: If something that is named is not there or not allowed.
    """
    options = _parser().parse_args(argv)
    kind = options.kind or ("study" if options.study else None)
    if kind is None:
        raise UserError(f"option --kind is missing; give one of {', '.join(KINDS)}")
    one_of("--kind", kind, tuple(KINDS))
    _check(options, kind)
    project = options.project or os.environ.get("WANDB_PROJECT") or PROJECT
    _check_project(project)
    if importlib.util.find_spec("wandb_workspaces") is None:
        raise UserError("dashboards need wandb-workspaces: pip install 'lightning-zoo[dashboards]'")
    os.environ.setdefault("WANDB_SILENT", "true")  # it would say the same in its own words
    from zoo.run.wandb_login import mode_of

    entity = options.entity or os.environ.get("WANDB_ENTITY") or ""
    mode, why = ("offline", "") if options.to else mode_of("auto")
    if mode != "online":
        return _write(options, kind, entity, project, why or "as WANDB_MODE says", argv)
    from zoo.dashboards.server import api, has_runs, send

    public = api()
    entity = entity or str(public.default_entity)
    if kind != "study":
        from zoo.dashboards.workspace import TASKS

        tags = [tag for tag in (TASKS[kind].__name__, options.recipe) if tag]
        filters = {"$and": [{"tags": tag} for tag in tags]}
        if not has_runs(public, entity, project, filters):
            raise _no_run(kind, options.recipe, f"the project {entity}/{project}")
    print(f"W&B: {send(public, _view(options, kind, entity, project))}")
    return 0


def _parser() -> VerbParser:
    parser = VerbParser(
        prog="zoo dashboard",
        description="Makes a workspace of W&B, a saved view, for the runs of a kind: loss and the "
        "monitored figure, calibration, speed, charts, pictures, tables. Of a sweep that has come "
        "to its end it makes a report. A second call writes the same view anew. Without a login "
        "it is written as JSON.",
        allow_abbrev=False,
    )
    parser.add_argument("study", nargs="?", metavar="FOLDER", help="A sweep's folder: runs/NAME.")
    parser.add_argument("--kind", help=f"What the runs are: {', '.join(KINDS)}.")
    parser.add_argument("--project", help=f"W&B's project; left out: WANDB_PROJECT, or {PROJECT}.")
    parser.add_argument("--entity", help="Whose project; left out: WANDB_ENTITY, or your own.")
    parser.add_argument("--recipe", help="Only the runs of this recipe.")
    parser.add_argument("--seed", help="Only the runs with this seed.")
    parser.add_argument(
        "--to", metavar="FILE", help="Writes the specification as JSON there, and sends nothing."
    )
    return parser


def _check(options: Any, kind: str) -> None:
    """Refuse options that do not go together."""
    if kind == "study" and not options.study:
        raise UserError("a study's report needs its folder: zoo dashboard runs/NAME")
    if kind != "study" and options.study:
        raise refuse("--kind", kind, f"give study, or leave out {options.study!r}")
    if kind == "study" and not Path(options.study).is_dir():
        raise UserError(f"there is no folder {options.study!r}; give one that `zoo sweep` left")
    for name in ("recipe", "seed"):
        if kind == "study" and getattr(options, name) is not None:
            raise refuse(f"--{name}", getattr(options, name), "leave it out: a study has its own")
    if options.seed is not None and not options.seed.isdecimal():
        raise refuse("--seed", options.seed, "give a whole number")


def _check_project(name: str) -> None:
    if not 0 < len(name) <= _LONGEST_PROJECT or set(name) & set(_NOT_IN_PROJECTS):
        remedy = f"give 1 to {_LONGEST_PROJECT} letters without {' '.join(_NOT_IN_PROJECTS)}"
        raise refuse("--project", name, remedy)


def _view(options: Any, kind: str, entity: str, project: str) -> View:
    if kind == "study":
        import wandb
        from wandb.sdk import wandb_setup

        from zoo.dashboards.study_report import report_of

        app = wandb.util.app_url(wandb_setup.singleton().settings.base_url)
        return report_of(Path(options.study), entity, project, app)
    from zoo.dashboards.workspace import workspace_of

    seed = None if options.seed is None else int(options.seed)
    return workspace_of(kind, entity, project, options.recipe, seed)


def _write(options: Any, kind: str, entity: str, project: str, why: str, argv: list[str]) -> int:
    """Write the specification, once a run on this disk is found that it is for."""
    if kind != "study" and not _is_run_here(kind, project, options.recipe):
        raise _no_run(kind, options.recipe, f"the folder runs, of the project {project}")
    from zoo.dashboards.server import specification

    view = _view(options, kind, entity, project)
    content = {
        "kind": kind,
        "entity": entity,
        "project": project,
        "name": getattr(view, "title", None) or getattr(view, "name", None),
        "specification": specification(view),
    }
    path = Path(options.to or f"dashboard-{kind}.json")
    try:
        with replaced(path) as file:
            file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise refuse("--to", str(path), f"it cannot be written ({error.strerror})") from error
    print(f"written to {nearby(path)}")
    if not options.to:
        again = shlex.join(["zoo", "dashboard", *argv])
        print(f"W&B: not sent ({why}); `wandb login`, then `{again}` sends it")
    return 0


def _is_run_here(kind: str, project: str, recipe: str | None) -> bool:
    """Return whether a run of the kind lies in ``runs``, logged to the project."""
    from zoo.dashboards.workspace import TASKS

    for place in Path("runs").glob(f"{recipe or '*'}/*/wandb.json"):
        if place_of(place.parent).get("project") != project:
            continue
        path = place.with_name("recipe.yaml")
        task = value_of("model.class_path", [read_layer(path)], []) if path.is_file() else None
        if str(task).rpartition(".")[2] == TASKS[kind].__name__:
            return True
    return False


def _no_run(kind: str, recipe: str | None, where: str) -> UserError:
    of = f" of the recipe {recipe!r}" if recipe else ""
    train = f"zoo fit {recipe or KINDS[kind]}"
    return UserError(f"no {kind} run{of} is in {where}; `{train}` makes one")
