"""A study that is no sweep: a script beside its YAML file, whose function ``study`` is called.

.. code-block:: yaml

    # What the study asks, in one sentence.
    script: softmax.py
    seeds: [0, 1, 2]
    options: {steps: 100}

The function is ``study(folder: Path, *, seeds: list[int], **options) -> None``. It leaves
``table.csv`` and ``table.md`` (:func:`zoo.studies.tables.write_table`) and its pictures
(:func:`zoo.studies.drawing.save_picture`) in the folder.
"""

from __future__ import annotations

import copy
import importlib.util
import inspect
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from datamodules.core.errors import did_you_mean, refuse
from datamodules.core.files import nearby
from zoo.catalog.contents import STUDIES, recipes_folder
from zoo.catalog.options import kinds_of
from zoo.cli.config import Layer, read_flag
from zoo.cli.values import misfit
from zoo.errors import OptionError, UserError
from zoo.studies.spec import check_seeds


def run_script(path: Path, content: Layer, folder: Path, trusted: list[str]) -> None:
    """Run a study's script.

    Args:
        path: The study's YAML file.
        content: What it holds, under the flags.
        folder: What the script leaves its table and pictures in.
        trusted: Scripts besides those of the packaged studies that may be run.

    Raises:
        UserError: If there is no such script, it may not be run, or its options will not do.
    """
    script = _script_of(path, content, trusted)
    seeds, options = content.get("seeds", [0]), content["options"]
    check_seeds(seeds)
    study = _function_of(script)
    options = _typed(study, options, path, script)
    folder.mkdir(parents=True, exist_ok=True)
    study(folder, seeds=seeds, **options)


def _typed(study: Callable[..., Any], options: Layer, path: Path, script: Path) -> Layer:
    """Return a script's options as its types have them; refuse what it does not have, or lacks."""
    parameters = inspect.signature(study, eval_str=True).parameters
    known = {n: each for n, each in parameters.items() if n not in ("folder", "seeds")}
    typed: Layer = {}
    for name, value in options.items():
        if name not in known:
            there = did_you_mean(name, known) or f"; there are {', '.join(known) or 'none'}"
            raise UserError(f"option options.{name} is not known to {nearby(script)}{there}")
        annotation = known[name].annotation
        if annotation is inspect.Parameter.empty:
            typed[name] = value
            continue
        parser = ArgumentParser(exit_on_error=False)
        parser.add_argument(f"--{name}", type=annotation)
        try:
            typed[name] = parser.parse_object({name: copy.copy(value)})[name]
        except ArgumentError:
            kinds = kinds_of(inspect.formatannotation(annotation))
            raise misfit(f"options.{name}", str(value), kinds, []) from None
    for name, each in known.items():
        if each.default is each.empty and name not in options:
            raise UserError(f"study {str(path)!r}: options.{name} is missing; give it a value")
    return typed


def with_flags(content: Layer, flags: Iterable[tuple[str, str | None]]) -> Layer:
    """Return what a study's file holds under flags such as ``--options.steps 10``.

    Args:
        content: The file's.
        flags: Names and values.

    Raises:
        UserError: If a flag is none of a script's, or has no value.
    """
    options = content.get("options", {})
    if not isinstance(options, dict):
        raise refuse("options", options, "give names and values, or leave it out")
    content = {**content, "options": {**options}}
    for name, value in flags:
        section, _, option = name.partition(".")
        if section != "options" or not option:
            raise UserError(
                f"option --{name} is not known to a study's script; give --seeds or --options.NAME"
            )
        if value is None:
            raise OptionError(name, " needs a value")
        content["options"][option] = read_flag(name, value)
    return content


def _script_of(path: Path, content: Layer, trusted: list[str]) -> Path:
    name = content["script"]
    if unknown := sorted(set(content) - {"script", "seeds", "options"}):
        raise UserError(
            f"study {str(path)!r}: {unknown[0]} is not known beside script; "
            "there are script, seeds and options"
        )
    if not isinstance(name, str) or Path(name).name != name or not name.endswith(".py"):
        raise UserError(
            f"study {str(path)!r}: script is {json.dumps(name)}; "
            "give the name of a Python file beside it"
        )
    script = (path.parent / name).resolve()
    if not script.is_file():
        raise UserError(f"study {str(path)!r}: there is no script {name!r} beside it")
    packaged = script.parent == (recipes_folder() / STUDIES).resolve()
    if not packaged and script not in [Path(each).resolve() for each in trusted]:
        shown = nearby(script)
        raise UserError(
            f"study {str(path)!r} runs the script {shown!r}, which is none of the zoo's; "
            f"read it, then give --trust {shown}"
        )
    return script


def _function_of(script: Path) -> Callable[..., Any]:
    spec = importlib.util.spec_from_file_location(f"zoo_study_{script.stem}", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    study = getattr(module, "study", None)
    if not callable(study):
        raise UserError(f"{nearby(script)!r} has no function study(folder, *, seeds, **options)")
    return study  # type: ignore[no-any-return]
