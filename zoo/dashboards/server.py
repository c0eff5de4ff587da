"""Sending a view to W&B: where one of its name is there already, that one is written anew."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import wandb
import wandb_workspaces.reports.v2 as wr
from wandb.sdk.lib.service.service_connection import WandbApiFailedError
from wandb_workspaces._graphql import execute_graphql

from datamodules.core.errors import refuse
from zoo.errors import UserError
from zoo.run.wandb_login import sentence

#: A workspace or a report.
View: TypeAlias = Any

_REFUSED = "W&B refuses the login (401); `wandb login --relogin` takes another key"
_VIEWS = """
    query View($entityName: String, $name: String, $viewType: String, $viewName: String) {
        project(name: $name, entityName: $entityName) {
            allViews(viewType: $viewType, viewName: $viewName) {
                edges { node { id name displayName } }
            }
        }
    }
"""
_RUNS = """
    query RunCount($entity: String, $project: String!, $filters: JSONString) {
        project(name: $project, entityName: $entity) { runCount(filters: $filters) }
    }
"""
_Result = TypeVar("_Result")


def api() -> Any:
    """Return W&B's public API, logged in.

    Raises:
        UserError: If the server refuses the login.
    """
    return _asked(wandb.Api, "")


def has_runs(public: Any, entity: str, project: str, filters: dict[str, Any]) -> bool:
    """Return whether a project has such a run.

    Raises:
        UserError: If there is no such project, or this account has no right to see it.
    """
    given = {"entity": entity, "project": project, "filters": json.dumps(filters)}
    found = _asked(lambda: execute_graphql(public, _RUNS, given), entity).get("project")
    if found is None:
        remedy = "give a project that has runs, or log one with `zoo fit RECIPE --wandb online`"
        raise refuse("--project", f"{entity}/{project}", remedy)
    return bool(found.get("runCount"))


def send(public: Any, view: View) -> str:
    """Write a view, over the one that has its name; return its address.

    Raises:
        UserError: If this account has no right to write there.
    """
    entity = view.entity
    if isinstance(view, wr.Report):
        found = _asked(lambda: _find(public, view, "runs", view.title), entity)
        view.id = found.get("id", "")
    else:
        found = _asked(lambda: _find(public, view, "project-view", view.name), entity)
        view._internal_id, view._internal_name = found.get("id", ""), found.get("name", "")
    _asked(view.save, entity)
    return str(view.url)


def _find(public: Any, view: View, kind: str, name: str) -> dict[str, str]:
    """Return id and name of the view that is called so; nothing where none is."""
    asked = {"entityName": view.entity, "name": view.project, "viewType": kind}
    project = execute_graphql(public, _VIEWS, asked).get("project") or {}
    nodes = [edge["node"] for edge in (project.get("allViews") or {}).get("edges", [])]
    return next((node for node in nodes if node["displayName"] == name), {})


def specification(view: View) -> dict[str, Any]:
    """Return a view as W&B keeps it, as plain data."""
    found: dict[str, Any] = json.loads(
        view._to_model().spec.model_dump_json(by_alias=True, exclude_none=True)
    )
    return found


def _asked(work: Callable[[], _Result], entity: str) -> _Result:
    """Do something with the server, and say in a sentence what it refuses.

    Raises:
        UserError: If it refuses.
    """
    try:
        return work()
    except wandb.errors.AuthenticationError as error:
        raise UserError(_REFUSED) from error
    except (WandbApiFailedError, wandb.errors.Error) as error:
        status = getattr(getattr(error, "response", None), "http_status", 0)
        if status == 401:
            raise UserError(_REFUSED) from error
        if status == 403 or "permission" in str(error).lower():
            remedy = "give one that this account may write to (403)"
            raise refuse("--entity", entity, remedy) from error
        raise UserError(f"W&B took nothing: {sentence(error)}") from error
