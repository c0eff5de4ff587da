"""The options of a class: name, what it may be, default and meaning, read from its source."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from zoo.catalog.facts import FACTS
from zoo.catalog.source import (
    Found,
    ancestry,
    docstring,
    find,
    named_lines,
    note_below,
    plain,
    resolve,
)

#: How types are called, and those of Lightning and torch that one gives as a class.
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "dict": "a mapping",
    "list": "a list",
    "list[int]": "whole numbers ([1, 2])",
    "list[float]": "numbers ([1, 2.5])",
    "list[str]": "texts ([a, b])",
    "nn.Module": "a net",
    "Path": "a file or folder",
    "timedelta": "a time (00:12:00:00)",
}


@dataclass(frozen=True)
class Option:
    """An argument of a class's constructor.

    Args:
        name: Its name.
        about: What the docstring says of it.
        kinds: What it may be, in words, without its choices.
        choices: The words and numbers that it may be.
        default: As YAML has it; None where it is required.
        meanings: What each choice means, as far as its list says so.
    """

    name: str
    about: str = ""
    kinds: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    default: str | None = None
    meanings: tuple[tuple[str, str], ...] = ()

    @property
    def is_switch(self) -> bool:
        """Whether it is given without a value."""
        return not self.takes and self.default == "false"

    @property
    def takes(self) -> str:
        """What it may be, in words."""
        kinds = [kind for kind in self.kinds if kind != "null"]
        words = [*self.choices, *kinds, *(["null"] if len(kinds) < len(self.kinds) else [])]
        return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else ""


@cache
def options_of(path: str) -> dict[str, Option] | None:
    """Return the options of a class or function, by its dotted name; None if it is not found.

    Those that it hands on to its bases are among them.
    """
    found = find(path)
    if found is None:
        return None
    if isinstance(found.node, ast.FunctionDef):
        about = named_lines(docstring(found.node), "Args")
        return {option.name: option for option in _signature(found, found.node, about)}
    if not isinstance(found.node, ast.ClassDef):
        return None
    return _of_class(found)


def own_options(prefix: str, path: str) -> dict[str, Option]:
    """Return the options of a class that one sets.

    Not the net of a task, nor what the data says of itself.

    Args:
        prefix: Where the class stands, ``model.net`` say.
        path: Its dotted name.
    """
    left_out = {"net", *FACTS} if prefix.startswith("model") else set()
    options = options_of(path) or {}
    return {name: option for name, option in options.items() if name not in left_out}


def _of_class(found: Found) -> dict[str, Option]:
    options: dict[str, Option] = {}
    given: set[str] = set()
    about: dict[str, str] = {}
    positional = 0
    places = ancestry(found)
    for place in places:
        assert isinstance(place.node, ast.ClassDef)
        # A class says what its constructor takes, or the constructor does, or a subclass before.
        about = named_lines(docstring(place.node), "Args") | about
        init = _constructor(place.node)
        if init is None:
            continue
        about = named_lines(docstring(init), "Args") | about
        own = list(_signature(place, init, about))
        names = [each.arg for each in [*init.args.posonlyargs, *init.args.args]][1:]
        given |= set(names[:positional])
        for option in own:
            if option.name not in given:
                options.setdefault(option.name, option)
        if init.args.kwarg is None:
            break
        positional, named = _handed_on(init, init.args.kwarg.arg)
        given |= named | set(options)
    # What a class says nothing of, one that it derives from may say.
    for place in places:
        assert isinstance(place.node, ast.ClassDef)
        about = named_lines(docstring(place.node), "Args") | about
    return {
        name: replace(option, about=option.about or _without_default(about.get(name, "")))
        for name, option in options.items()
    }


def _constructor(node: ast.ClassDef) -> ast.FunctionDef | None:
    return next(
        (e for e in node.body if isinstance(e, ast.FunctionDef) and e.name == "__init__"), None
    )


def _handed_on(init: ast.FunctionDef, kwargs: str) -> tuple[int, set[str]]:
    """Return what a constructor gives its base itself: how many in order, and which by name."""
    for node in ast.walk(init):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "__init__"
            and any(keyword.arg is None for keyword in node.keywords)
        ):
            return len(node.args), {keyword.arg for keyword in node.keywords if keyword.arg}
    return 0, set()


def _signature(place: Found, function: ast.FunctionDef, about: dict[str, str]) -> Iterator[Option]:
    arguments = function.args
    ordered = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(ordered) - len(arguments.defaults))
    pairs = [*zip(ordered, [*defaults, *arguments.defaults], strict=True)]
    pairs += zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    for argument, default in pairs:
        if argument.arg == "self":
            continue
        option = Option(
            argument.arg,
            _without_default(about.get(argument.arg, "")),
            default=None if default is None else _yaml_of(default),
        )
        yield _with_type(option, place.module, argument.annotation)


def _without_default(text: str) -> str:
    """Return what a docstring says, without the default, which the signature says."""
    return re.sub(r"\s*Default: \S+?\.?$", "", text)


def _yaml_of(node: ast.expr) -> str:
    try:
        return as_yaml(ast.literal_eval(node))
    except ValueError:
        return ast.unparse(node)


def as_yaml(value: Any) -> str:
    """Return a plain value as one types it on the command line."""
    if isinstance(value, str):
        return value or "''"
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, float) and not isinstance(value, bool):
        return repr(value)
    try:
        return json.dumps(value, ensure_ascii=False)
    except TypeError:
        return repr(value)


def _with_type(option: Option, module: str, annotation: ast.expr | None) -> Option:
    for part in _alternatives(module, annotation):
        if isinstance(part, _Choices):
            option = replace(
                option,
                choices=option.choices + tuple(n for n in part.names if n not in option.choices),
                meanings=option.meanings + part.meanings,
            )
        elif part not in option.kinds:
            option = replace(option, kinds=(*option.kinds, part))
    return option


def kinds_of(annotation: str) -> list[str]:
    """Return what an annotation allows, in words.

    >>> kinds_of("list[int] | None")
    ['whole numbers ([1, 2])', 'null']
    """
    parts = _alternatives("", ast.parse(annotation, mode="eval").body)
    return [word for part in parts for word in ([part] if isinstance(part, str) else part.names)]


@dataclass(frozen=True)
class _Choices:
    names: tuple[str, ...]
    meanings: tuple[tuple[str, str], ...] = ()


def _alternatives(module: str, node: ast.expr | None) -> Iterator[str | _Choices]:
    """Yield what an annotation allows."""
    if node is None:
        return
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):  # an annotation in quotes
            yield from _alternatives(module, ast.parse(node.value, mode="eval").body)
        else:
            yield "null" if node.value is None else str(node.value)
    elif isinstance(node, ast.BinOp):
        yield from _alternatives(module, node.left)
        yield from _alternatives(module, node.right)
    elif isinstance(node, ast.Subscript):
        yield from _subscripted(module, node)
    else:
        yield from _named(module, node)


def _subscripted(module: str, node: ast.Subscript) -> Iterator[str | _Choices]:
    name = ast.unparse(node.value).rpartition(".")[2]
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if name == "Literal":
        for part in parts:
            if isinstance(part, ast.Constant):
                yield _Choices((as_yaml(part.value),))
            else:  # another list of names
                yield from _alternatives(module, part)
    elif name in ("Union", "Optional"):
        for part in parts:
            yield from _alternatives(module, part)
        if name == "Optional":
            yield "null"
    else:
        text = plain(ast.unparse(node)).replace("typing.", "")
        yield _WORDS.get(text, _WORDS.get(name, "a list" if name == "Iterable" else f"a {name}"))


def _named(module: str, node: ast.expr) -> Iterator[str | _Choices]:
    text = ast.unparse(node)
    if text == "bool":
        yield _Choices(("true", "false"))
        return
    if text in _WORDS:
        yield _WORDS[text]
        return
    found = resolve(module, node)
    if found is None or not isinstance(found.node, ast.Assign | ast.AnnAssign):
        name = text.rpartition(".")[2]
        yield f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"
        return
    meanings = named_lines(note_below(found.module, text.rpartition(".")[2]), "Names")
    for part in _alternatives(found.module, found.node.value):
        if isinstance(part, _Choices):
            own = tuple((name, meanings[name]) for name in part.names if name in meanings)
            yield replace(part, meanings=own or part.meanings)
        else:
            yield part


@cache
def choices_of(module: str, alias: str) -> dict[str, str]:
    """Return the names of a ``Literal`` in a module, with what its own docstring says of each."""
    found: dict[str, str] = {}
    for part in _named(module, ast.Name(alias)):
        if isinstance(part, _Choices):
            meanings = dict(part.meanings)
            found |= {name: meanings.get(name, "") for name in part.names}
    return found
