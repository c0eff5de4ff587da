"""A command line: taken apart, completed by recipes and checkpoint, ordered for the parser."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, NoReturn

from datamodules.core.errors import did_you_mean, refuse
from datamodules.core.files import nearby
from zoo.catalog.contents import exports, recipe_names, recipes_folder, study_names
from zoo.cli.config import (
    Layer,
    checkpoint_layer,
    classes_first,
    expand_flags,
    optimizer_resets,
    read_layer,
    refuse_deep,
    refuse_facts,
    value_of,
)
from zoo.cli.run_name import varied
from zoo.cli.sections import check_flags, check_layer, check_required
from zoo.errors import OptionError, UserError
from zoo.run.names import check_local
from zoo.run.runs import NEWEST, newest_checkpoint

#: What every recipe starts from.
DEFAULTS = Path(__file__).parents[1] / "defaults.yaml"


@dataclass
class Part:
    """What a command does otherwise as one of a study's.

    Args:
        study: The study's name, under which its runs are kept.
        label: What the run differs by, for the name of its folder.
        varied: The same as options and values, for W&B.
        tests: Whether a training is followed by the test of its best checkpoint.
        callbacks: Lightning's callbacks besides the recipe's.
        started: Told the run's folder, once it is there.
        error: The sentence that ended the run, if one did.
    """

    study: str
    label: str
    varied: dict[str, Any] = field(default_factory=dict)
    tests: bool = True
    callbacks: list[Any] = field(default_factory=list)
    started: Callable[[Path], None] = lambda folder: None
    error: str | None = None


@dataclass
class Request:
    """A command line, taken apart but not yet parsed.

    Args:
        verb: ``fit``, ``check``, ``bench``, ``validate``, ``test`` or ``predict``.
        argv: The command line as given.
        recipes: The files behind ``--config``, in order, and before them those named without it.
        named: How many are named without it.
        flags: All other arguments.
        trust: Packages that ``--trust`` adds to those a recipe may name classes of.
        ckpt_path: As given, ``last`` and ``best`` included.
        weights: The name of weights, which takes the place of ``ckpt_path`` once it is found.
        init_from: The weights that a training starts from, as given.
        inputs: What to predict.
        quiet: Whether the table of what was understood is left out.
        as_json: Whether the standard output is one JSON document.
        document: That document, once the verb has come to its end.
        part: The study that it is a part of, if it is.
    """

    verb: str
    argv: list[str] = field(default_factory=list)
    recipes: list[Path] = field(default_factory=list)
    named: int = 0
    flags: list[str] = field(default_factory=list)
    trust: list[str] = field(default_factory=list)
    ckpt_path: str | None = None
    weights: str | None = None
    init_from: str | None = None
    inputs: list[str] = field(default_factory=list)
    quiet: bool = False
    as_json: bool = False
    document: Any = None
    part: Part | None = None

    @property
    def trains(self) -> bool:
        """Whether the verb trains, or tries out a training."""
        return self.verb == "fit" or self.tries

    @property
    def tries(self) -> bool:
        """Whether the verb tries out a training: on one device, without a run folder."""
        return self.verb in ("check", "bench")

    @property
    def asks_help(self) -> bool:
        """Whether a flag asks for help, of the verb or of a section."""
        return any(name in ("-h", "--help") or name.endswith(".help") for name in self.names)

    @property
    def names(self) -> set[str]:
        """The names of the flags, as given."""
        return {flag.partition("=")[0] for flag in self.flags if flag.startswith("-")}

    @property
    def layered(self) -> list[Path]:
        """The recipes whose options count: a checkpoint that is not trained brings its own.

        One that is named without ``--config`` then only says whose run is meant.
        """
        return self.recipes if self.trains else self.recipes[self.named :]

    def answer(self, work: Callable[[], int]) -> int:
        """Do the command's work; with ``--json``, print its document alone.

        Args:
            work: Gives the exit code, and leaves the document here.
        """
        if not self.as_json:
            return work()
        from zoo.report.json_output import output_aside, print_document

        with output_aside():
            code = work()
        if self.document is not None:
            print_document(self.document)
        return code

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
        start: The checkpoint whose weights a training starts from.
        varied: What differs from the recipe, in few letters.
    """

    words: list[str]
    sources: dict[str, str]
    checkpoint: dict[str, Any] | None
    start: dict[str, Any] | None = None
    varied: str = ""


class _Parser(argparse.ArgumentParser):
    """Knows the few options that decide what the rest is parsed against."""

    def __init__(self) -> None:
        super().__init__(add_help=False, allow_abbrev=False)
        self.add_argument("--config", "-c", action="append", type=_not_empty, default=[])
        self.add_argument("--trust", action="append", type=_not_empty, default=[])
        self.add_argument("--ckpt_path", type=_not_empty)
        self.add_argument("--weights", type=_not_empty)
        self.add_argument("--init_from", type=_not_empty)
        self.add_argument("--inputs", action="extend", nargs="+", default=[])
        self.add_argument("--quiet", action="store_true")
        self.add_argument("--json", action="store_true")

    def error(self, message: str) -> NoReturn:
        """Raise what the user is told.

        Raises:
            UserError: Always.
        """
        option = message.split()[1].partition("/")[0].rstrip(":")
        if "ignored explicit argument" in message:
            raise UserError(f"option {option} takes no value")
        what = "at least one file or folder" if option == "--inputs" else "a value"
        raise UserError(f"option {option} needs {what}")


def _not_empty(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("empty")
    return text


def names_of_recipes(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the words before the first option, which name recipes, and all that follow."""
    first = next((place for place, word in enumerate(words) if word.startswith("-")), len(words))
    return words[:first], words[first:]


def take_apart(argv: list[str]) -> Request:
    """Read the arguments that decide what the rest is parsed against.

    What stands between the verb and the first option is a recipe as by ``--config``; where nothing
    is trained, it only says whose run ``last`` and ``best`` mean.

    Raises:
        UserError: If a recipe is not there, or an option lacks its value.
    """
    verb = argv[0]
    names, words = names_of_recipes(argv[1:])
    given, flags = _Parser().parse_known_args(words)
    if given.inputs and verb != "predict":
        raise UserError(f"option --inputs belongs to predict, not to {verb}")
    if given.init_from and verb not in ("fit", "check", "bench"):
        raise UserError(f"option --init_from belongs to fit, not to {verb}")
    if given.weights and verb not in ("validate", "test", "predict"):
        raise UserError(
            f"option --weights belongs to validate, test and predict, not to {verb}: a training "
            "starts from them by --init_from"
        )
    if given.weights and given.ckpt_path:
        raise refuse("weights", given.weights, "leave it out, or ckpt_path, which means the same")
    for package in given.trust:
        _check_trusted(package)
    for flag, following in zip_longest(flags, flags[1:]):
        if _lacks_value(flag, following):
            raise UserError(f"option {flag} needs a value")
    recipes = [find_recipe(name) for name in [*names, *given.config]]
    return Request(
        verb,
        argv,
        recipes,
        len(names),
        flags,
        trust=given.trust,
        ckpt_path=given.ckpt_path,
        weights=given.weights,
        init_from=given.init_from,
        inputs=given.inputs,
        quiet=given.quiet,
        as_json=given.json,
    )


def _check_trusted(package: str) -> None:
    from zoo.run.trust import THROUGH_NETS

    top, *_ = names = package.split(".")
    if top in THROUGH_NETS:
        raise refuse("--trust", package, f"its models are reached through {THROUGH_NETS[top]}")
    # jsonargparse itself could change what is trusted
    if top == "jsonargparse" or not all(map(str.isidentifier, names)):
        raise refuse("--trust", package, "give the name of a package")


def _lacks_value(argument: str, following: str | None) -> bool:
    """Tell a class's option that stands alone, for which the parser would blame the section."""
    alone = following is None or following.startswith("--")
    lists_classes = argument in ("--model.help", "--data.help")
    section = argument.startswith(("--model", "--data")) and not lists_classes
    return section and alone and "=" not in argument


def find_recipe(name: str) -> Path:
    """Return a file of that path, with ``.yaml`` or without, or else a packaged recipe.

    Raises:
        OptionError: If neither is there.
    """
    path = Path(name)
    for file in (path, Path(f"{name}.yaml")):
        if os.path.isfile(file):  # unlike Path's, also where a name is too long
            if file.suffix in (".ckpt", ".safetensors"):
                raise refuse("config", name, "it is a checkpoint: give it as --ckpt_path")
            return file
    key = name.removesuffix(".yaml").removeprefix("recipes/")
    packaged = recipes_folder() / f"{key}.yaml"
    if os.path.isfile(packaged):
        return packaged
    if os.path.isdir(path):
        raise refuse("config", name, "it is a folder: give a YAML file in it")
    if name in NEWEST:
        raise refuse("config", name, f"it stands for a checkpoint: give it as --ckpt_path {name}")
    for option, kind in (("model", "tasks"), ("model.net", "nets"), ("data", "data")):
        if name in dict(exports(kind)):
            raise refuse("config", name, f"it is a class: give it as --{option} {name}")
    known = [*recipe_names(), *study_names(), *(file.stem for file in Path().glob("*.yaml"))]
    if inside := [each for each in recipe_names() if each.startswith(f"{key.rstrip('/')}/")]:
        raise refuse("config", name, f"give a recipe in it: {', '.join(inside)}")
    hint = did_you_mean(key, known) or "; `zoo list recipes` shows what there is"
    raise refuse("config", name, f"give a file or the name of a packaged recipe{hint}")


def build_arguments(request: Request) -> Arguments:
    """Read recipes and checkpoint, and put all layers into their order.

    Raises:
        UserError: If a file cannot be used, or an option is not that of the checkpoint's classes.
    """
    from zoo.run.checkpoint import check_complete, read_checkpoint

    defaults = read_layer(DEFAULTS)
    read = [read_layer(path) for path in request.recipes]
    for layer in read:
        in_file = layer.pop("ckpt_path", None)
        request.ckpt_path = request.ckpt_path or in_file
    _choose_start(request, read)
    recipes = read[len(read) - len(request.layered) :]
    sources = {
        json.dumps(layer): f"recipe {str(path)!r}"
        for path, layer in zip(request.layered, recipes, strict=True)
    }
    find_checkpoint(request, [defaults, *read])
    checkpoint, layers, start = None, [defaults], None
    if request.init_from is not None and request.trains and request.ckpt_path is None:
        root = _root([defaults, *read], request.flags)
        request.init_from, start = read_start(request.init_from, root)
    if request.ckpt_path is not None:
        checkpoint = read_checkpoint(request.ckpt_path)
        verb = "fit" if request.trains else request.verb
        check_complete(checkpoint, request.ckpt_path, verb)
        layers.append(checkpoint_layer(request.ckpt_path, checkpoint, request.inputs, request.verb))
        sources[json.dumps(layers[-1])] = f"ckpt_path {request.ckpt_path!r}"
    layers += recipes
    flags = classes_first(expand_flags(request.flags))
    check_names(request, layers)
    resets = optimizer_resets(layers, flags)
    texts: list[str | None] = []
    for text, reset in zip([*map(json.dumps, layers), None], resets, strict=True):
        texts += [reset, text]
    words = [word for text in texts if text is not None for word in ("--config", text)] + flags
    if request.ckpt_path is not None:
        words += ["--ckpt_path", request.ckpt_path]
    if request.init_from is not None and request.trains:
        words += ["--init_from", str(request.init_from)]
    return Arguments(words, sources, checkpoint, start, varied(request.layered, layers, flags))


def _choose_start(request: Request, read: list[Layer]) -> None:
    """Take the weights to start from out of the recipes, unless the command line names some.

    Raises:
        UserError: If the command line also names a training to go on with.
    """
    asked = request.init_from is not None and request.part is None
    if asked and request.ckpt_path is not None:
        raise refuse(
            "init_from",
            request.init_from,
            "leave it out, or ckpt_path, with which a training goes on that has its weights",
        )
    for layer in read:
        in_file = layer.pop("init_from", None)
        request.init_from = request.init_from or in_file


def _found(option: str, name: str, root: Path) -> Path:
    """Return the file of weights that an option names.

    Args:
        option: Its name.
        name: What it was given.
        root: Where runs are kept.

    Raises:
        OptionError: If there is none.
    """
    from zoo.model.find import find_weights

    try:
        return find_weights(name, root)
    except OptionError as error:
        raise OptionError(option, error.reason, error.near) from error


def _root(layers: list[Layer], flags: list[str]) -> Path:
    """Return where runs are kept."""
    return Path(str(value_of("trainer.default_root_dir", layers, flags)))


def read_start(name: str, root: Path) -> tuple[str, dict[str, Any]]:
    """Read the checkpoint whose weights a training starts from.

    Args:
        name: Of weights, as given.
        root: Where runs are kept.

    Returns:
        The name under which another run finds the same file, and what is in it.

    Raises:
        UserError: If there is none, or it cannot be read.
    """
    from zoo.model.find import is_elsewhere
    from zoo.run.checkpoint import read_checkpoint
    from zoo.run.hub import pinned

    path = _found("init_from", name, root)
    try:
        checkpoint = read_checkpoint(path)
    except OptionError as error:
        raise OptionError("init_from", error.reason, error.near) from error
    if is_elsewhere(name):
        return pinned(name, path), checkpoint
    return name if os.path.isfile(name) else nearby(path), checkpoint


def check_early(request: Request) -> None:
    """Refuse what recipes and flags get wrong as far as source tells, before torch is imported.

    Of a checkpoint the recipe that lies beside it tells which classes there are. Where there is
    none, and where ``fit`` looks for a run to go on with, all is left to the parser.

    Raises:
        UserError: If there is no such option, class, value or file, or no recipe to train by.
    """
    if request.trains and not request.recipes and request.ckpt_path is None:
        named = {name.removesuffix(".class_path") for name in request.names}
        if not _asks(request) and not {"--model", "--data"} <= named:
            raise UserError(
                f"{request.verb} needs a recipe: give --config NAME, `zoo list recipes` shows "
                "those at hand (or name --model and --data)"
            )
    layers = [read_layer(path) for path in (DEFAULTS, *request.recipes)]
    for layer in layers:
        request.ckpt_path = request.ckpt_path or layer.get("ckpt_path")
    recipes = layers[len(layers) - len(request.layered) :]
    refuse_deep(request.flags)
    refuse_facts(recipes, request.flags)
    flags = expand_flags(request.flags)
    if request.ckpt_path is None and request.trains:
        check_names(request, layers)
        if not _asks(request):
            check_required(layers, flags)
    elif not request.trains or NEWEST.get(str(request.ckpt_path)) != "last":
        find_checkpoint(request, layers)
        if request.ckpt_path is not None:
            check_local(request.ckpt_path)
            run = recipe_of_run(request.ckpt_path)
            if run is not None:
                if request.verb == "predict":  # other classes prepare inputs and prompts
                    run.pop("data", None)
                check_names(request, [layers[0], run, *recipes])


def recipe_of_run(checkpoint: str) -> Layer | None:
    """Return the recipe of the run that made a checkpoint; None where none lies beside it."""
    path = Path(checkpoint).resolve().parents[1] / "recipe.yaml"
    with suppress(UserError):  # it is the user's, but not what the command asks for
        return read_layer(path) if path.is_file() else None
    return None


def check_names(request: Request, layers: list[Layer]) -> None:
    """Check options, classes and values of recipes and flags, as far as source tells.

    Args:
        request: The command line.
        layers: The layers of the configuration with the recipes as the last.

    Raises:
        UserError: If there is no such option or class, or one takes no such value.
    """
    for path, count in zip(reversed(request.layered), range(len(layers), 0, -1), strict=False):
        try:
            check_layer(layers[:count])
        except OptionError as error:
            raise UserError(f"recipe {str(path)!r}: {error}") from error
    check_flags(layers, expand_flags(request.flags))


def _asks(request: Request) -> bool:
    """Whether the command only shows something, for which nothing has to be there."""
    return request.asks_help or "--print_config" in request.names


def find_checkpoint(request: Request, layers: list[Layer]) -> None:
    """Replace the name of a checkpoint, of a run or of weights by the file that is meant.

    A run's folder stands for its best checkpoint, but where training goes on: its last may be meant
    then.

    Raises:
        UserError: If there is none, or a verb lacks its checkpoint.
    """
    root = _root(layers, request.flags)
    option, name = "ckpt_path", request.ckpt_path
    if request.weights is not None:
        option, name, request.weights = "weights", request.weights, None
    if name in NEWEST:
        which, recipe = NEWEST[name], request.name if request.recipes else None
        if request.trains and recipe is None:
            raise refuse("ckpt_path", name, "give a recipe too, to say whose run")
        if request.trains and which == "last":
            from zoo.cli.resume import unfinished_run

            path = unfinished_run(root, str(recipe), layers, request.flags)
        else:
            path = newest_checkpoint(which, root, recipe)
        name = _told(request, path)
    elif name is not None and not os.path.isfile(name):
        from zoo.model.find import is_elsewhere

        if not request.trains or not os.path.isdir(name):
            path = _found(option, name, root)
            name = str(path) if is_elsewhere(name) else _told(request, path)
    request.ckpt_path = name
    if request.ckpt_path is None and not request.trains and not _asks(request):
        raise UserError(
            f"{request.verb} needs a checkpoint: give --ckpt_path FILE, or last or best of "
            "the run begun last; without one the weights would be random"
        )


def _told(request: Request, path: Path) -> str:
    """Return the file that a name was found to mean, which is said."""
    if request.verb != "fit":  # which says in which folder it goes on
        print(f"checkpoint {nearby(path)}", file=sys.stderr)
    return str(path)
