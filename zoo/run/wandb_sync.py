"""Sending to W&B what runs have kept offline: by ``wandb sync``, each file once and in order."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from filelock import FileLock, Timeout

from datamodules.core.files import nearby
from zoo.errors import UserError
from zoo.run.wandb_filing import place_of

#: What a file that was sent has beside it; W&B's own.
_MARK = ".synced"


class Sent(NamedTuple):
    """What came of a run's files.

    Args:
        url: Where the run is to be seen; empty where ``wandb sync`` was too fast to say.
        torn: Those that end in the middle of a record, of which all before was sent.
    """

    url: str
    torn: list[Path]


def mark_sent(segment: Path) -> None:
    """Note that all of W&B's file in a folder has arrived."""
    for file in segment.glob("run-*.wandb"):
        file.with_name(file.name + _MARK).touch()


def is_run(folder: Path) -> bool:
    """Return whether a folder is that of a run, or has the W&B run of a study's table."""
    return (folder / "recipe.yaml").is_file() or bool(place_of(folder))


def unsent(run: Path) -> list[Path]:
    """Return W&B's files in a run's folder that were not sent, in the order of their beginnings.

    Args:
        run: The run's folder. One that went on several times has a file for each time.

    Raises:
        UserError: If it is no run, or W&B has written nothing in it.
    """
    place = nearby(run)
    if not is_run(run):
        raise UserError(
            f"{place!r} is no run, as it has no recipe.yaml; name folders that `zoo fit` has left"
        )
    files = list(run.glob("wandb/*run-*/run-*.wandb"))
    if not files:
        raise UserError(
            f"the run {place!r} has no files of W&B, as with --wandb off; name one of --wandb "
            "offline"
        )
    files.sort(key=lambda file: file.parent.name.removeprefix("offline-"))
    return [file for file in files if not file.with_name(file.name + _MARK).exists()]


def send(run: Path) -> Sent:
    """Send what was not sent of a run; what is sent is marked.

    Args:
        run: The run's folder.

    Raises:
        UserError: If it is no run, is still written, or W&B takes it not.
    """
    files = unsent(run)
    place = nearby(run)
    lock = FileLock(run / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"the run {place!r} is still being written; wait for its end") from error
    except OSError as error:
        raise UserError(
            f"{place!r} cannot be written ({error.strerror}), hence not marked as sent; copy the "
            "run to where it can"
        ) from error
    try:
        if files:
            _check_there(run, files[0])
        url, torn = "", []
        for file in files:
            output = _sync(file)
            if found := re.findall(r"View run at (\S+)", output):
                url = found[-1]
            if not file.with_name(file.name + _MARK).exists():
                _check_torn(place, output)
                torn.append(file)
                mark_sent(file.parent)  # its run is over: there is no more to come
        return Sent(url, torn)
    finally:
        lock.release()


def _sync(file: Path) -> str:
    """Run ``wandb sync`` and return what it says."""
    command = [sys.executable, "-m", "wandb", "sync", "--include-online", str(file.resolve())]
    environment = {k: v for k, v in os.environ.items() if k not in ("WANDB_MODE", "WANDB_SILENT")}
    folder = file.parents[1]  # its logs go to the working folder else
    environment |= {"WANDB_DIR": str(folder.parent), "WANDB_CACHE_DIR": str(folder / "cache")}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    return ended.stdout + ended.stderr


def _check_torn(place: str, output: str) -> None:
    """Check that nothing but a torn end kept a file from being sent whole."""
    errors = [line for line in re.findall(r"^wandb: ERROR (.+)$", output, re.MULTILINE)]
    if errors and all("Failed to sync all data" in error for error in errors):
        return
    why = errors[0] if errors else next(iter(output.splitlines()[-1:]), "it said nothing")
    raise UserError(
        f"W&B does not take the run {place!r} ({why}); see that `wandb login` is of an account "
        "that may write there, and call `zoo sync` again"
    )


def _check_there(run: Path, first: Path) -> None:
    """Check that W&B's run of this id, if there is one, is this one and waits for its next file.

    Args:
        run: The run's folder.
        first: The first file to be sent.
    """
    import wandb

    where = place_of(run)
    if "id" not in where:
        return
    path = "/".join(filter(None, map(where.get, ("entity", "project", "id"))))
    try:
        there = wandb.Api().run(path)
        config, last = there.config, dict(there.summary).get("_step")
    except Exception:  # there is none yet; what refuses is told where the run is sent
        return
    anew = f"`wandb sync --include-online --include-synced --id NEW {nearby(run)}/wandb/*run-*`"
    recipe = run / "recipe.yaml"
    ours = yaml.safe_load(recipe.read_text(encoding="utf-8")) if recipe.is_file() else {}
    if ours and differ(config, ours):
        raise UserError(
            f"W&B's run {path!r} has another recipe ({recipe_of(config)}) than {nearby(run)!r} "
            f"({recipe_of(ours)}); {anew} sends this one under another id"
        )
    # `wandb sync` puts rows after those that are there.
    if last is not None and last >= _first_step(run, first):
        raise UserError(
            f"W&B's run {path!r} has rows of {first.parent.name} already, from an upload that was "
            f"cut short, and would have them twice; {anew} sends all of it under another id"
        )


def _first_step(run: Path, file: Path) -> float:
    """Return the row at which a file begins in W&B's run; infinite where it was never begun."""
    state = file.with_name(file.name + ".syncstate")
    with suppress(OSError, ValueError, KeyError, TypeError):
        return int(json.loads(state.read_text(encoding="utf-8"))["starting_step"])
    online = not file.parent.name.startswith("offline-")
    return 0 if online or not any(run.glob(f"wandb/*run-*/*{_MARK}")) else inf


def differ(there: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Return whether two configurations of runs are of recipes that differ in their classes."""
    known = recipe_of(there)
    return bool(known) and known != recipe_of(ours)


def recipe_of(config: Mapping[str, Any]) -> str:
    """Return the names of task, net and data of a run's configuration; empty where it has none.

    >>> recipe_of({"model": {"class_path": "zoo.tasks.X"}, "data": {"class_path": "Digits"}})
    'X, Digits'
    """
    model = _part(config, "model")
    parts = [model, _part(_part(model, "init_args"), "net"), _part(config, "data")]
    names = [str(part["class_path"]).rpartition(".")[2] for part in parts if "class_path" in part]
    return ", ".join(names)


def _part(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = config.get(name)
    return found if isinstance(found, Mapping) else {}
