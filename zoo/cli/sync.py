"""``zoo sync``: runs that were kept offline go to W&B, each once."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from datamodules.core.files import nearby
from zoo.cli.verb_parser import VerbParser
from zoo.errors import UserError
from zoo.run.names import recipe_folder
from zoo.run.runs import RUNS, runs_of
from zoo.run.wandb_sync import is_run, send, unsent


def sync(argv: list[str]) -> int:
    """Run ``zoo sync``.

    Args:
        argv: What follows the verb.

    Returns:
        The exit code.

    Raises:
        UserError: If something named is no run, or W&B cannot be reached or does not take it.
    """
    parser = VerbParser(
        prog="zoo sync",
        description="Send to W&B what runs have kept offline: figures, pictures, tables and "
        "artifacts. What was sent is marked, and is not sent again. Log in before by "
        "`wandb login`.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "run",
        metavar="RUN",
        nargs="+",
        help="the folder of a run, or of a sweep, for all in it; last for the run begun last, or "
        "RECIPE:last",
    )
    options = parser.parse_args(argv)
    runs = list(dict.fromkeys(run for name in options.run for run in _runs(name)))
    waiting = [run for run in runs if unsent(run)]
    if waiting:
        _check_login()
    for run in runs:
        if run not in waiting:
            print(f"{nearby(run)}: was sent before")
            continue
        print(f"{nearby(run)}: sending", flush=True)
        sent = send(run)
        print(f"{nearby(run)}: sent{f' to {sent.url}' if sent.url else ''}")
        for file in sent.torn:
            print(
                f"zoo: {nearby(file)} ends in the middle of a record, as its run was cut off; all "
                "before that was sent",
                file=sys.stderr,
            )
    return 0


def _runs(name: str) -> list[Path]:
    """Return the folders that a name stands for."""
    path = Path(name).expanduser()
    recipe, _, which = name.rpartition(":")
    if which != "last" or path.exists():
        if not path.is_dir():
            raise UserError(f"there is no folder {name!r}; name folders that `zoo fit` has left")
        inside = sorted(recipe.parent for recipe in path.glob("*/recipe.yaml"))
        below = [run for run in inside if (run / "wandb").is_dir()]
        return [path, *below] if is_run(path) or not below else below
    folder = recipe_folder(recipe) or None
    if not any(RUNS.glob(f"{folder or '*'}/*/recipe.yaml")):
        of = f" of {recipe!r}" if recipe else ""
        raise UserError(f"there is no run{of} in {str(RUNS)!r}; `zoo fit` makes one")
    return runs_of(RUNS, folder, which)[:1]


def _check_login() -> None:
    """Check that W&B's server answers and that this machine is logged in."""
    from zoo.run.wandb_login import mode_of

    os.environ.setdefault("WANDB_SILENT", "true")  # it would say the same in its own words
    mode, why = mode_of("online")
    if mode != "online":
        remedy = "`wandb login` logs in" if why == "not logged in" else "try again later"
        raise UserError(f"nothing was sent to W&B ({why}); {remedy}")
