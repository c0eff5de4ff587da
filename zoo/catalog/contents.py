"""What the zoo holds, read from its source files: no import of torch, hence no wait."""

from __future__ import annotations

import ast
import difflib
import fnmatch
import importlib
import re
import runpy
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from datamodules.core.errors import nearest
from zoo.catalog.options import choices_of
from zoo.catalog.source import docstring, file_of, find, statements
from zoo.catalog.weights import card_of, line_of, weights_names
from zoo.errors import UserError

#: The verbs that build task and data, and their help.
VERBS = {
    "fit": "Train, then test the best checkpoint.",
    "check": "Try a recipe out on one batch, and estimate memory and time; nothing is written.",
    "bench": "Time a recipe's training step part by part, at one batch size or several.",
    "validate": "Validate a checkpoint.",
    "test": "Test a checkpoint.",
    "predict": "Predict labels and probabilities with a checkpoint.",
}
#: The others, which build neither.
OTHER_VERBS = {
    "compare": "Show runs beside each other: what differs in their recipes, and what came of it.",
    "dashboard": "Make a dashboard of W&B for the runs of a kind, or the report of a sweep.",
    "demo": "Serve a page in the browser that asks a trained net.",
    "explain": "Write a page in which a trained net runs and is looked into.",
    "export": "Write a checkpoint in the form that other programs read.",
    "help": "Show all about a thing, or an option.",
    "list": "Show what there is.",
    "push": "Put weights, their recipe and a card into a repository on the Hugging Face hub.",
    "results": "Show the figures of runs as rows.",
    "sweep": "Run a recipe under each combination of values, or a search, or a study's script.",
    "sync": "Send to W&B what runs have kept offline, each once.",
}
_PACKAGES = {
    "nets": ("zoo.nets",),
    "tasks": ("zoo.tasks",),
    "data": tuple(
        f"datamodules.{room}" for room in ("images", "segmentation", "tables", "text", "language")
    ),
}


class NameList(NamedTuple):
    """The names that an option takes.

    Args:
        module: Where their ``Literal`` is.
        alias: What it is called there.
        option: The option.
        recipe: A recipe that has it.
        of: What they are for, where the same names are for several things.
    """

    module: str
    alias: str
    option: str
    recipe: str
    of: str = ""


_NAMES = {
    "losses": (
        NameList(
            "zoo.losses.classification", "ClassificationLoss", "model.loss", "resnet", "classes"
        ),
        NameList("zoo.losses.regression", "RegressionLoss", "model.loss", "regression", "numbers"),
        NameList("zoo.losses.segmentation", "SegmentationLoss", "model.loss", "unet", "masks"),
        NameList("zoo.tasks.preference", "PreferenceLoss", "model.loss", "llm/dpo", "preferences"),
    ),
    "norms": (NameList("zoo.nets.layers.norms", "NormName", "model.net.norm", "resnet"),),
    "activations": (
        NameList("zoo.nets.layers.activations", "ActivationName", "model.net.activation", "resnet"),
    ),
    "optimizers": (NameList("zoo.optim.optimizers", "OptimizerName", "model.optimizer", "resnet"),),
    "schedules": (NameList("zoo.optim.schedules", "ScheduleName", "model.schedule", "resnet"),),
    "metrics": (NameList("zoo.metrics.names", "FigureName", "checkpoint.monitor", "resnet"),),
}
#: What there is, in the order of the list.
KINDS = (*_PACKAGES, *_NAMES, "recipes", "overlays", "studies", "weights")
#: Kinds whose entries are files.
FILES = ("recipes", "overlays", "studies")
#: The folder of the recipes that holds the studies.
STUDIES = "studies"
#: Names that a question asks after.
_MOST_PROPOSED = 4
#: Data sets of several, each told by ``about()`` of a module that imports nothing but a little of
#: the standard library.
_COLLECTIONS = {"MedMNIST": "datamodules.images.medmnist_sets"}


class Entry(NamedTuple):
    """A thing of the zoo.

    Args:
        kind: Which of ``KINDS``.
        name: Its name.
        about: One line about it.
        path: Of a class, its dotted name.
        names: Of a name that an option takes, the option's names.
    """

    kind: str
    name: str
    about: str
    path: str = ""
    names: NameList | None = None

    @property
    def title(self) -> str:
        """What it stands under in a list."""
        of = self.names.of if self.names else ""
        return f"{self.kind} of {of}" if of else self.kind


def recipes_folder() -> Path:
    """Return the folder of the packaged recipes.

    In the installed package, or beside it in the source.
    """
    installed = Path(__file__).parents[1] / "recipes"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "recipes"


def recipe_names() -> list[str]:
    """Return the names of all recipes, such as ``inception`` or ``cifar10/inception``.

    Overlays are among them; studies, which are no recipes, are not.
    """
    folder = recipes_folder()
    paths = (path.relative_to(folder).with_suffix("") for path in folder.rglob("*.yaml"))
    return sorted(path.as_posix() for path in paths if path.parts[0] != STUDIES)


def study_names() -> list[str]:
    """Return the names of all studies, such as ``studies/norm_vs_batch_size``."""
    return sorted(f"{STUDIES}/{path.stem}" for path in (recipes_folder() / STUDIES).glob("*.yaml"))


@cache
def recipe_text(name: str) -> str:
    """Return a packaged recipe's file."""
    return (recipes_folder() / f"{name}.yaml").read_text(encoding="utf-8").rstrip()


def is_overlay(name: str) -> bool:
    """Return whether a recipe names no model of its own, and so is a second ``--config``."""
    return not any(line.startswith("model:") for line in recipe_text(name).split("\n"))


def entries(kind: str) -> Iterator[Entry]:
    """Yield each thing of a kind."""
    if kind in FILES:
        files = study_names() if kind == "studies" else recipe_names()
        for name in files:
            if kind == "studies" or is_overlay(name) is (kind == "overlays"):
                first = recipe_text(name).split("\n")[0]
                yield Entry(kind, name, first.lstrip("# ") if first.startswith("#") else "")
    elif kind == "weights":
        for name in weights_names():
            yield Entry(kind, name, line_of(card_of(name)))
    elif kind in _NAMES:
        for names in _NAMES[kind]:
            for name, about in choices_of(names.module, names.alias).items():
                yield Entry(kind, name, about, names=names)
    else:
        for name, module in exports(kind):
            path = f"{module}.{name}"
            yield Entry(kind, name, text_of(path).split("\n")[0], path)


def import_all() -> None:
    """Import all nets, tasks and data: the parser knows the classes that are imported."""
    for kind in _PACKAGES:
        for _, module in exports(kind):
            importlib.import_module(module)


@cache
def exports(kind: str) -> tuple[tuple[str, str], ...]:
    """Return name and defining module of each net, task or data set that its package exports."""
    return tuple(
        (alias.name, str(node.module))
        for package in _PACKAGES[kind]
        for node in statements(package)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith(f"{package}.")
        for alias in node.names
    )


def text_of(path: str) -> str:
    """Return the docstring of a class or function, by its dotted name."""
    found = find(path)
    if found is None or not isinstance(found.node, ast.ClassDef | ast.FunctionDef):
        return ""
    return docstring(found.node)


def search(kind: str | None, pattern: str | None) -> list[Entry]:
    """Return what a pattern finds: a name, names by ``*`` and ``?``, parts of names, or of lines.

    Raises:
        UserError: If it finds nothing.
    """
    everything = [entry for each in ([kind] if kind else KINDS) for entry in entries(each)]
    if pattern is None:
        return everything
    wanted = pattern.lower()
    for finds in (
        lambda entry: entry.name == pattern,
        lambda entry: fnmatch.fnmatch(entry.name.lower(), wanted),
        lambda entry: wanted in entry.name.lower(),
        lambda entry: wanted in entry.about.lower(),
    ):
        if found := [entry for entry in everything if finds(entry)]:
            return found
    hint = question(pattern, [entry.name for entry in everything])
    hint = hint or "`zoo list` shows what there is"
    raise UserError(f"nothing among the {kind or 'entries'} matches {pattern!r}; {hint}")


def question(name: str, names: Iterable[str]) -> str | None:
    """Return "did you mean ...?" of the names that are near; None where none is.

    All that share a word which is nearer than any whole name, as ``Classifier`` is to
    ``Clasifier``; else the nearest.
    """
    known = list(dict.fromkeys(names))
    words = {each: re.findall(r"[A-Z][a-z\d]+|[A-Z]+(?![a-z])|[a-z\d]+", each) for each in known}
    word = nearest(name, chain.from_iterable(words.values()), 0.8)
    whole = nearest(name, known)
    near = [whole] if whole else []
    if word is not None and (whole is None or _likeness(name, word) > _likeness(name, whole)):
        near = [each for each in known if word.lower() in map(str.lower, words[each])]
    near = [repr(each) for each in near][:_MOST_PROPOSED]
    either = " or ".join(filter(None, [", ".join(near[:-1]), *near[-1:]]))
    return f"did you mean {either}?" if near else None


def _likeness(name: str, other: str) -> float:
    return difflib.SequenceMatcher(None, name.lower(), other.lower()).ratio()


def more_about(entry: Entry) -> Iterator[str]:
    """Yield what a class states as texts besides its docstring: licence, citation, its sets."""
    found = find(entry.path)
    for line in found.node.body if found and isinstance(found.node, ast.ClassDef) else []:
        if not isinstance(line, ast.Assign) or not isinstance(line.value, ast.Constant):
            continue
        for target in line.targets:
            if isinstance(target, ast.Name) and target.id in ("licence", "citation"):
                yield f"{target.id.capitalize()}: {line.value.value!s}"
    if entry.name in _COLLECTIONS:
        # Run as a file, because to import it would import its package and so torch.
        path = file_of(_COLLECTIONS[entry.name])
        about: Any = runpy.run_path(str(path))["about"]
        yield about()
