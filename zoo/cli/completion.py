"""What the shell proposes behind Tab: verbs, recipes, options of what a recipe names, values.

By argcomplete, which runs the command once more at each Tab: nothing here imports torch.
"""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import pairwise
from typing import Any

import argcomplete
from argcomplete.completers import FilesCompleter

from zoo.catalog.contents import (
    KINDS,
    OTHER_VERBS,
    VERBS,
    entries,
    recipe_names,
    study_names,
)
from zoo.catalog.weights import weights_names
from zoo.cli.config import expand_flags, read_layer
from zoo.cli.guide import PREFIXES
from zoo.cli.request import DEFAULTS, find_recipe, names_of_recipes
from zoo.cli.sections import Section, run_options, sections_of
from zoo.errors import UserError

_Completer = Callable[..., Iterable[str]]


def complete() -> None:
    """Answer the shell and end the process, where it is the shell that asks."""
    line = os.environ.get("COMP_LINE", "")[: int(os.environ.get("COMP_POINT", "-1")) or None]
    argcomplete.autocomplete(parser_of(line), always_complete_options=False)


def parser_of(line: str) -> argparse.ArgumentParser:
    """Return a parser that knows what may follow in a command line.

    Args:
        line: The line up to the cursor.
    """
    try:
        words = shlex.split(line)
    except ValueError:  # within quotes
        words = line.split()
    parser = argparse.ArgumentParser(prog="zoo", allow_abbrev=False)
    verbs = parser.add_subparsers()
    for verb, about in (VERBS | OTHER_VERBS).items():
        of_verb = verbs.add_parser(verb, help=about, allow_abbrev=False)
        if words[1:2] != [verb]:
            continue
        if verb in VERBS:
            _add_options(of_verb, verb, words[2:])
        elif verb in ("list", "help"):
            _positional(of_verb, "what", _names([*KINDS[: len(KINDS) * (verb == "list")], *_all()]))
            of_verb.add_argument("--json", action="store_true")
        elif verb == "export":
            _positional(of_verb, "recipe", _or_files(recipe_names(), ("yaml",)))
            _option(of_verb, "ckpt_path", _or_files(["last", "best"], ("ckpt", "safetensors")))
            _option(of_verb, "to", _names(["hf", "onnx", "safetensors", "torch"]), nargs=2)
            _option(of_verb, "inputs", FilesCompleter(), nargs="+")
            _option(of_verb, "quantize", _names(["int8"]))
        elif verb == "demo":
            _positional(of_verb, "recipe", _or_files(recipe_names(), ("yaml",)))
            _option(of_verb, "ckpt_path", _or_files(["last", "best"], ("ckpt", "safetensors")))
            _option(of_verb, "weights", _names(weights_names()))
            for name in ("host", "port", "examples"):
                _option(of_verb, name, _names([]))
        elif verb == "explain":
            _positional(of_verb, "out", FilesCompleter())
            _option(of_verb, "ckpt_path", _or_files(["last", "best"], ("ckpt", "safetensors")))
            _option(of_verb, "weights", _names(weights_names()))
            _option(of_verb, "inputs", FilesCompleter(), nargs="+")
            _option(of_verb, "max_size", _names([]))
            _option(of_verb, "trust", _names([]))
            of_verb.add_argument("--single_file", action="store_true")
            of_verb.add_argument("--partial", action="store_true")
        elif verb == "push":
            named = [*weights_names(), "last", "best"]
            _positional(of_verb, "name", _or_files(named, ("ckpt", "safetensors")))
            of_verb.add_argument("--private", action="store_true")
        elif verb == "sync":
            _positional(of_verb, "run", _or_files(["last"], ()))
        elif verb == "results":
            _positional(of_verb, "run", FilesCompleter())
            _option(of_verb, "to", FilesCompleter(("csv",)))
        elif verb == "compare":
            _positional(of_verb, "run", FilesCompleter())
            _option(of_verb, "to", _names(["md", "csv", "html"]))
            _option(of_verb, "x", _names(["step", "epoch", "time"]))
            for name in ("last", "sort", "picture"):
                _option(of_verb, name, FilesCompleter(()))
        elif verb == "dashboard":
            _positional(of_verb, "study", FilesCompleter(()))
            _option(
                of_verb,
                "kind",
                _names(["vision", "segmentation", "text", "lm", "table", "study"]),
            )
            _option(of_verb, "recipe", _names(recipe_names()))
            for name in ("project", "entity", "seed"):
                _option(of_verb, name, _names([]))
            _option(of_verb, "to", FilesCompleter(("json",)))
        elif verb == "sweep":
            studies = _or_files(study_names(), ("yaml",))
            _positional(of_verb, "study", studies)
            _option(of_verb, "config", studies)
            for name in ("trust", "seeds", "trials", "storage", "jobs"):
                _option(of_verb, name, FilesCompleter(("py",)) if name == "trust" else _names([]))
            of_verb.add_argument("--retry", action="store_true")
    return parser


def _add_options(parser: argparse.ArgumentParser, verb: str, words: list[str]) -> None:
    recipes = _or_files(recipe_names(), ("yaml",))
    _positional(parser, "recipe", recipes)
    own: dict[str, _Completer] = {
        "config": recipes,
        "ckpt_path": _or_files(["last", "best"], ("ckpt", "safetensors")),
        "init_from": _or_files(weights_names(), ("ckpt", "safetensors")),
        "weights": _names(weights_names()),
        "inputs": FilesCompleter(),
    }
    for option in run_options(verb):
        if option.is_switch:
            parser.add_argument(f"--{option.name}", action="store_true")
        else:
            _option(parser, option.name, own.get(option.name) or _names(option.choices))
    for kind, prefix in PREFIXES.items():
        _option(parser, prefix, _names([entry.name for entry in entries(kind)]))
    for section in _sections(words):
        for option in section.options.values():
            _option(parser, f"{section.prefix}.{option.name}", _names(option.choices))


def _sections(words: list[str]) -> list[Section]:
    """Return the sections of a line that is not whole yet."""
    names, flags = names_of_recipes(words)
    named = [*names, *(b for a, b in pairwise(flags) if a == "--config")]
    layers = [read_layer(DEFAULTS)]
    for name in named:
        with suppress(UserError):  # still being typed
            layers.append(read_layer(find_recipe(name)))
    return sections_of(layers, expand_flags(flags))


def _all() -> list[str]:
    return sorted({entry.name for kind in KINDS for entry in entries(kind)})


def _names(names: Iterable[str]) -> _Completer:
    known = list(names)
    return lambda prefix, **_: [name for name in known if name.startswith(prefix)]


def _or_files(names: Iterable[str], endings: Iterable[str]) -> _Completer:
    known, files = list(names), FilesCompleter(endings)
    return lambda prefix, **_: [*(n for n in known if n.startswith(prefix)), *files(prefix)]


def _positional(parser: argparse.ArgumentParser, name: str, completer: _Completer) -> None:
    action: Any = parser.add_argument(name, nargs="*")
    action.completer = completer


def _option(
    parser: argparse.ArgumentParser,
    name: str,
    completer: _Completer,
    nargs: int | str | None = None,
) -> None:
    action: Any = parser.add_argument(f"--{name}", nargs=nargs)
    action.completer = completer
