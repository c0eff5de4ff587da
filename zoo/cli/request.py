"""A command line: taken apart, completed by recipes and checkpoint, ordered for the parser."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, NoReturn

from datamodules.core.errors import did_you_mean, refuse
from zoo.cli.catalog import recipe_names, recipes_folder
from zoo.cli.config import (
    Layer,
    checkpoint_layer,
    expand_flags,
    optimizer_resets,
    read_layer,
    refuse_facts,
    value_of,
)
from zoo.cli.resume import checkpoint_of, runs_of, unfinished_run
from zoo.errors import UserError
from zoo.run.checkpoint import check_complete, read_checkpoint
from zoo.run.trust import THROUGH_NETS


@dataclass
class Request:
    """A command line, taken apart but not yet parsed.

    Args:
        verb: ``fit``, ``validate``, ``test`` or ``predict``.
        argv: The command line as given.
        recipes: The files behind ``--config``, in order.
        flags: All other arguments.
        trust: Packages that ``--trust`` adds to those a recipe may name classes of.
        ckpt_path: As given, ``last`` and ``best`` included.
        inputs: What to predict.
        quiet: Whether the table of what was understood is left out.
    """

    verb: str
    argv: list[str] = field(default_factory=list)
    recipes: list[Path] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    trust: list[str] = field(default_factory=list)
    ckpt_path: str | None = None
    inputs: list[str] = field(default_factory=list)
    quiet: bool = False

    @property
    def name(self) -> str:
        """The recipe's name, under which its runs are kept."""
        if not self.recipes:
            return "unnamed"
        path = self.recipes[0].resolve()
        folders = [path.parent.name] if path.parent.parent.name == "recipes" else []
        if path.name == "recipe.yaml":  # a run's own recipe, run again
            return path.parent.parent.name
        return "-".join([*folders, path.stem])


@dataclass
class Arguments:
    """What is left to parse.

    Args:
        words: The layers as ``--config`` in their order, then the flags.
        sources: What a layer's text is called in a message.
        checkpoint: The checkpoint that the verb starts from.
    """

    words: list[str]
    sources: dict[str, str]
    checkpoint: dict[str, Any] | None


class _Parser(argparse.ArgumentParser):
    """Knows the few options that decide what the rest is parsed against."""

    def __init__(self) -> None:
        super().__init__(add_help=False, allow_abbrev=False)
        self.add_argument("--config", "-c", action="append", type=_not_empty, default=[])
        self.add_argument("--trust", action="append", type=_not_empty, default=[])
        self.add_argument("--ckpt_path", type=_not_empty)
        self.add_argument("--inputs", action="extend", nargs="+", default=[])
        self.add_argument("--quiet", action="store_true")

    def error(self, message: str) -> NoReturn:
        """Raise what the user is told.

        Raises:
            UserError: Always.
        """
        option = message.split()[1].partition("/")[0].rstrip(":")
        what = "at least one file or folder" if option == "--inputs" else "a value"
        raise UserError(f"option {option} needs {what}")


def _not_empty(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("empty")
    return text


def take_apart(argv: list[str]) -> Request:
    """Read the arguments that decide what the rest is parsed against.

    Raises:
        UserError: If a recipe is not there, or an option lacks its value.
    """
    verb = argv[0]
    given, flags = _Parser().parse_known_args(argv[1:])
    if given.inputs and verb != "predict":
        raise UserError(f"option --inputs belongs to predict, not to {verb}")
    for package in given.trust:
        top, *_ = names = package.split(".")
        if top in THROUGH_NETS:
            raise refuse("--trust", package, f"its models are reached through {THROUGH_NETS[top]}")
        # jsonargparse itself could change what is trusted
        if top == "jsonargparse" or not all(map(str.isidentifier, names)):
            raise refuse("--trust", package, "give the name of a package")
    for flag, following in zip_longest(flags, flags[1:]):
        if _lacks_value(flag, following):
            raise UserError(f"option {flag} needs a value")
    recipes = [find_recipe(name) for name in given.config]
    return Request(
        verb, argv, recipes, flags, given.trust, given.ckpt_path, given.inputs, given.quiet
    )


def _lacks_value(argument: str, following: str | None) -> bool:
    """Tell a class's option that stands alone, for which the parser would blame the section."""
    alone = following is None or following.startswith("--")
    lists_classes = argument in ("--model.help", "--data.help")
    section = argument.startswith(("--model", "--data")) and not lists_classes
    return section and alone and "=" not in argument


def find_recipe(name: str) -> Path:
    """Return a file of that path, or else a packaged recipe of that name.

    Raises:
        OptionError: If neither is there.
    """
    path = Path(name)
    if os.path.isfile(path):  # unlike Path's, also where a name is too long
        return path
    key = name.removesuffix(".yaml").removeprefix("recipes/")
    packaged = recipes_folder() / f"{key}.yaml"
    if os.path.isfile(packaged):
        return packaged
    if os.path.isdir(path):
        raise refuse("config", name, "it is a folder: give a YAML file in it")
    hint = did_you_mean(key, recipe_names()) or "; `zoo list recipes` shows what there is"
    raise refuse("config", name, f"give a file or the name of a packaged recipe{hint}")


def build_arguments(request: Request) -> Arguments:
    """Read recipes and checkpoint, and put all layers into their order.

    Raises:
        UserError: If a file cannot be used, a checkpoint is missing or a fact is set by hand.
    """
    if request.verb == "fit" and not request.recipes and request.ckpt_path is None:
        named = {flag.partition("=")[0] for flag in request.flags}
        if not _asks(request) and not {"--model", "--data"} <= named:
            raise UserError(
                "fit needs a recipe: give --config NAME, `zoo list recipes` shows those at hand "
                "(or name --model and --data)"
            )
    defaults = read_layer(Path(__file__).parents[1] / "defaults.yaml")
    recipes = [read_layer(path) for path in request.recipes]
    for layer in recipes:
        in_file = layer.pop("ckpt_path", None)
        request.ckpt_path = request.ckpt_path or in_file
    refuse_facts(recipes, request.flags)
    sources = {
        json.dumps(layer): f"recipe {str(path)!r}"
        for path, layer in zip(request.recipes, recipes, strict=True)
    }
    _find_checkpoint(request, [defaults, *recipes])
    checkpoint, layers = None, [defaults]
    if request.ckpt_path is not None:
        checkpoint = read_checkpoint(request.ckpt_path)
        check_complete(checkpoint, request.ckpt_path, request.verb)
        layers.append(checkpoint_layer(request.ckpt_path, checkpoint, request.inputs, request.verb))
        sources[json.dumps(layers[-1])] = f"ckpt_path {request.ckpt_path!r}"
    layers += recipes
    flags = expand_flags(request.flags)
    resets = optimizer_resets(layers, flags)
    texts: list[str | None] = []
    for text, reset in zip([*map(json.dumps, layers), None], resets, strict=True):
        texts += [reset, text]
    words = [word for text in texts if text is not None for word in ("--config", text)] + flags
    if request.ckpt_path is not None:
        words += ["--ckpt_path", request.ckpt_path]
    return Arguments(words, sources, checkpoint)


def _asks(request: Request) -> bool:
    """Whether the command only shows something, for which nothing has to be there."""
    return any(
        flag.partition("=")[0].endswith(("help", "-h", "print_config")) for flag in request.flags
    )


def _find_checkpoint(request: Request, layers: list[Layer]) -> None:
    """Replace ``last`` and ``best`` by the file that is meant.

    Raises:
        UserError: If there is none, or a verb lacks its checkpoint.
    """
    if request.ckpt_path in ("last", "best"):
        if not request.recipes:
            raise refuse("ckpt_path", request.ckpt_path, "give --config too, to say whose run")
        root = Path(str(value_of("trainer.default_root_dir", layers, request.flags)))
        if request.verb == "fit" and request.ckpt_path == "last":
            path = unfinished_run(root, request.name, layers, request.flags)
        else:
            newest = runs_of(root, request.name, request.ckpt_path)[0]
            path = checkpoint_of(newest, request.ckpt_path)
        request.ckpt_path = str(path)
    if request.ckpt_path is None and request.verb != "fit" and not _asks(request):
        raise UserError(
            f"{request.verb} needs a checkpoint: give --ckpt_path FILE "
            "(or last or best with --config); without one the weights would be random"
        )
