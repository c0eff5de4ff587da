"""What callbacks, loggers and profiler write lies inside the run folder, whatever a recipe says."""

from __future__ import annotations

import inspect
import os
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from datamodules.core.errors import OptionError, refuse

#: Arguments that name what is written to, in Lightning's callbacks, loggers and profilers.
FOLDERS = (
    "dirpath",
    "save_dir",
    "root_dir",
    "log_dir",
    "dir",
    "folder",
    "offline_directory",
    "exclude_batches_path",
)
#: MLflow's servers, which are no folders; it takes a folder no more, but a file of SQLite.
_SERVERS = re.compile(r"\w+://|databricks")
_DATABASE = "sqlite:///"
#: Where Lightning writes to the working folder unless told.
_HOME = ("save_dir", "root_dir", "offline_directory")
#: What leads out of a folder: the root, a drive, a home, a parent, or another place's address.
_LEADS_OUT = re.compile(r"^([/\\~]|[A-Za-z]:[/\\]|file:|\w+:///)|(^|[/\\])\.\.($|[/\\])")


def write_inside(trainer: Namespace, folder: Path) -> dict[str, Any]:
    """Have what the Trainer is given write into the run folder: relative folders lie in it.

    Args:
        trainer: The section of the parsed configuration, which is changed.
        folder: The run folder.

    Returns:
        What the section said before.

    Raises:
        OptionError: If something would be written elsewhere.
    """
    given = {}
    for option in ("callbacks", "logger", "profiler"):
        value = trainer.get(option)
        specs = value if isinstance(value, list) else [value]
        if not any(isinstance(spec, Namespace) for spec in specs):
            continue
        try:
            moved = [_inside(spec, folder) for spec in specs]
        except OptionError as error:
            raise error.inside(f"trainer.{option}") from error
        given[option] = value
        trainer[option] = moved if isinstance(value, list) else moved[0]
    return given


def _inside(spec: Any, folder: Path) -> Any:
    if not isinstance(spec, Namespace):
        return spec
    spec = spec.clone()
    arguments = spec.get("init_args") or Namespace()  # type: ignore[no-untyped-call]
    taken = inspect.signature(pkgutil.resolve_name(spec.class_path)).parameters
    if "tracking_uri" in taken:
        _track_inside(arguments, folder)
    for part in (vars(arguments), spec.get("dict_kwargs") or {}):
        for name, text in _texts(part):
            if name == "tracking_uri" and name in taken:
                continue
            if _LEADS_OUT.search(text) and not _is_within(text, folder):
                raise refuse(name, text, "give a name inside the run folder, such as logs")
            if name in FOLDERS:
                part[name] = text if os.path.isabs(text) else str(folder / text)
    for name in _HOME:
        if name in taken and arguments.get(name) is None:
            arguments[name] = str(folder)
    spec["init_args"] = arguments
    return spec


def _track_inside(arguments: Namespace, folder: Path) -> None:
    """Have MLflow write a database and artifacts into the run folder, unless a server has them."""
    uri = arguments.get("tracking_uri") or os.environ.get("MLFLOW_TRACKING_URI") or ""
    name = uri.removeprefix(_DATABASE) or "mlflow.db"
    if _SERVERS.match(uri) and not uri.startswith(_DATABASE):
        return
    if _LEADS_OUT.search(name) and not _is_within(name, folder):
        raise refuse(
            "tracking_uri", uri, f"give {_DATABASE}mlflow.db, which lies in the run folder"
        )
    arguments["tracking_uri"] = f"{_DATABASE}{folder.resolve() / name}"
    if not arguments.get("artifact_location"):
        arguments["artifact_location"] = str(folder.resolve() / "artifacts")


def _texts(node: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield all texts among arguments, with the name of the argument."""
    if isinstance(node, str | os.PathLike):
        yield name, os.fspath(node)
    elif isinstance(node, Namespace):
        yield from _texts(vars(node), name)
    elif isinstance(node, dict):
        for key, value in list(node.items()):
            yield from _texts(value, name or str(key))
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _texts(value, name)


def _is_within(text: str, folder: Path) -> bool:
    return Path(text).resolve().is_relative_to(folder.resolve())
