"""What the zoo holds, read from its source files: no import of torch, hence no wait."""

from __future__ import annotations

import ast
import fnmatch
import importlib
import importlib.util
import re
import runpy
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from zoo.errors import UserError

#: The verbs that build task and data, and their help.
VERBS = {
    "fit": "Train, then test the best checkpoint.",
    "validate": "Validate a checkpoint.",
    "test": "Test a checkpoint.",
    "predict": "Predict labels and probabilities with a checkpoint.",
}
KINDS = ("nets", "tasks", "data", "recipes")
_PACKAGES = {
    "nets": ("zoo.nets",),
    "tasks": ("zoo.tasks",),
    "data": tuple(
        f"datamodules.{room}" for room in ("images", "segmentation", "tables", "text", "language")
    ),
}
#: Data sets of several, each told by ``about()`` of a module that imports nothing but a little of
#: the standard library.
_COLLECTIONS = {"MedMNIST": "datamodules.images.medmnist_sets"}


def recipes_folder() -> Path:
    """Return the folder of the packaged recipes.

    In the installed package, or beside it in the source.
    """
    installed = Path(__file__).parents[1] / "recipes"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "recipes"


def recipe_names() -> list[str]:
    """Return the names of all recipes, such as ``inception`` or ``cifar10/inception``."""
    folder = recipes_folder()
    paths = folder.rglob("*.yaml")
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in paths)


def entries(kind: str) -> Iterator[tuple[str, str]]:
    """Yield name and one line about each net, task, data set or recipe."""
    if kind == "recipes":
        for name in recipe_names():
            first = (recipes_folder() / f"{name}.yaml").read_text(encoding="utf-8").split("\n")[0]
            yield name, first.lstrip("# ") if first.startswith("#") else ""
        return
    for name, module in exports(kind):
        yield name, _first_line(module, name)


def import_all() -> None:
    """Import all nets, tasks and data: the parser knows the classes that are imported."""
    for package in chain.from_iterable(_PACKAGES.values()):
        importlib.import_module(package)


def listing(kind: str | None, pattern: str | None) -> str:
    """Return the text of ``zoo list``.

    A line each, or all about the one thing that a pattern names.

    Raises:
        UserError: If nothing matches the pattern.
    """
    lines: list[str] = []
    places: list[tuple[str, str]] = []
    for each in [kind] if kind else KINDS:
        found = [
            (name, about)
            for name, about in entries(each)
            if pattern is None or fnmatch.fnmatch(name.lower(), pattern.lower())
        ]
        if not found:
            continue
        width = max(len(name) for name, _ in found)
        lines.append(f"{each}:")
        lines += [f"  {name:<{width}}  {about}".rstrip() for name, about in found]
        places += [(each, name) for name, _ in found]
    if pattern is not None and len(places) == 1:
        return f"{lines[0]}\n  {places[0][1]}\n\n{_all_about(*places[0])}"
    if not lines:
        near = "*" if pattern is None or "*" in pattern else f"*{pattern}*"
        raise UserError(f"nothing among the {kind or 'entries'} matches {pattern!r}; try {near!r}")
    return "\n".join(lines)


def _source(module: str) -> Path:
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)  # a top-level name: nothing is imported
    assert spec is not None
    assert spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0], *rest)
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def exports(kind: str) -> Iterator[tuple[str, str]]:
    """Yield name and defining module of each net, task or data set that its package exports."""
    for package in _PACKAGES[kind]:
        for node in ast.parse(_source(package).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    yield alias.name, node.module


def _all_about(kind: str, name: str) -> str:
    if kind == "recipes":
        return (recipes_folder() / f"{name}.yaml").read_text(encoding="utf-8").rstrip()
    module = dict(exports(kind))[name]
    parts = [_docstring(module, name), *_rights(module, name)]
    if name in _COLLECTIONS:
        # Run as a file, because to import it would import its package and so torch.
        parts.append(runpy.run_path(str(_source(_COLLECTIONS[name])))["about"]())
    return "\n\n".join(parts)


def _first_line(module: str, name: str) -> str:
    return _docstring(module, name).split("\n")[0]


def _docstring(module: str, name: str) -> str:
    node = _class(module, name)
    return "" if node is None else re.sub(r"``|:class:|`~?", "", ast.get_docstring(node) or "")


def _rights(module: str, name: str) -> Iterator[str]:
    """Yield licence and citation, where a class states them as texts."""
    node = _class(module, name)
    for line in [] if node is None else node.body:
        if not isinstance(line, ast.Assign) or not isinstance(line.value, ast.Constant):
            continue
        for target in line.targets:
            if isinstance(target, ast.Name) and target.id in ("licence", "citation"):
                yield f"{target.id.capitalize()}: {line.value.value!s}"


def _class(module: str, name: str) -> ast.ClassDef | None:
    tree = ast.parse(_source(module).read_text(encoding="utf-8"))
    found = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    return next(found, None)
