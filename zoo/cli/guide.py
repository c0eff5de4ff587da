"""``zoo list`` and ``zoo help``: what there is, and all about one thing of it."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import groupby
from typing import Any

from datamodules.core.errors import nearest
from zoo.catalog.contents import (
    FILES,
    KINDS,
    VERBS,
    Entry,
    entries,
    more_about,
    recipe_names,
    recipe_text,
    search,
    text_of,
)
from zoo.catalog.options import Option, own_options
from zoo.catalog.weights import card_of, text_of_card, weights_path
from zoo.cli.sections import FIXED, OPTIONS_CALLED, RUN_OPTIONS, run_options
from zoo.cli.verb_parser import VerbParser
from zoo.errors import UserError

WIDTH = 100
#: Where the options of a class stand.
PREFIXES = {"nets": "model.net", "tasks": "model", "data": "data"}
#: What one may call a kind.
_KINDS_CALLED = {
    **{kind[:-1]: kind for kind in KINDS if kind not in ("data", "losses", "studies")},
    "loss": "losses",
    "study": "studies",
    "model": "nets",
    "models": "nets",
    "dataset": "data",
    "datasets": "data",
    "optimiser": "optimizers",
    "optimisers": "optimizers",
    "scheduler": "schedules",
    "schedulers": "schedules",
}
#: A recipe whose data can be replaced by those of a room.
_RECIPES = {
    "images": "resnet",
    "segmentation": "unet",
    "tables": "regression",
    "text": "gru",
    "language": "gpt",
}


def list_things(argv: list[str]) -> int:
    """Run ``zoo list``: a line about each thing, or all about the one that a pattern finds.

    Args:
        argv: What follows the verb.

    Returns:
        The exit code.

    Raises:
        UserError: If nothing is found.
    """
    parser = VerbParser(prog="zoo list", description="Show what there is.", allow_abbrev=False)
    parser.add_argument("what", nargs="*", metavar="KIND|PATTERN", help=", ".join(KINDS))
    parser.add_argument("--json", action="store_true", help="one JSON document")
    options = parser.parse_args(argv)
    first = options.what[0] if options.what else ""
    kind = first if first in KINDS else _KINDS_CALLED.get(first)
    patterns = options.what[1:] if kind else options.what
    if len(patterns) > 1:
        raise UserError(
            f"list takes no {patterns[1]!r} beside {patterns[0]!r}; "
            f"give one of {', '.join(KINDS)} and a pattern, or either"
        )
    found = search(kind, patterns[0] if patterns else None)
    _show(found, as_json=options.json, whole=bool(patterns) and len(found) == 1)
    return 0


def explain_things(argv: list[str]) -> int:
    """Run ``zoo help``: all about a net, a task, data, a recipe, a name or an option.

    Args:
        argv: What follows the verb; at least a name.

    Returns:
        The exit code.

    Raises:
        UserError: If there is no such thing.
    """
    parser = VerbParser(prog="zoo help", description="Show all about a thing, or an option.")
    parser.add_argument("name", help="see `zoo list`, or an option such as norm")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    own = ("--json", "--help", "-h")
    options = parser.parse_args([word if word in own else word.lstrip("-") for word in argv])
    name = options.name.rpartition(".")[2] if "/" not in options.name else options.name
    if name in KINDS and name not in ("data", "weights"):  # which are options too
        return list_things([name, *["--json"] * options.json])
    places = list(places_of(name)) if name.islower() else []
    try:
        found = search(None, name)
    except UserError:
        found = []
        if not places:
            if near := _option_near(name):
                sentence = f"nothing is called {name!r}; did you mean the option {near!r}?"
                raise UserError(sentence) from None
            raise
    exact = [entry for entry in found if entry.name.lower() == name.lower()]
    if exact or not places:
        _show(exact or found, as_json=options.json, whole=bool(exact) or len(found) == 1)
    elif options.json:
        document = [
            _option_json(prefix, option) | {"of": classes}
            for (prefix, option), classes in _classes_of(places).items()
        ]
        print(json.dumps(document, ensure_ascii=False, indent=1))
    if places and not options.json:
        print("\n".join([""] * bool(exact) + list(_about_option(places))))
    return 0


def _show(found: list[Entry], *, as_json: bool, whole: bool) -> None:
    if as_json:
        document = [_json_of(entry, whole=whole) for entry in found]
        print(json.dumps(document, ensure_ascii=False, indent=1))
    elif whole:
        print("\n\n\n".join(all_about(entry) for entry in found))
    else:
        print(table(found))


def table(found: Iterable[Entry]) -> str:
    """Return a line about each thing, below its kind."""
    lines = []
    for title, group in groupby(found, key=lambda entry: entry.title):
        rows = list(group)
        width = max(len(entry.name) for entry in rows)
        lines.append(f"{title}:")
        lines += [f"  {entry.name:<{width}}  {entry.about}".rstrip() for entry in rows]
    return "\n".join(lines)


def all_about(entry: Entry) -> str:
    """Return the text about one thing: what it is, its options, its recipes, a line to try."""
    parts = [f"{entry.title}:\n  {entry.name}"]
    if entry.kind in FILES:
        parts.append(recipe_text(entry.name))
    elif entry.kind == "weights":
        size = weights_path(entry.name).stat().st_size
        parts.append(text_of_card(card_of(entry.name), size))
    elif entry.names is not None:
        parts += [entry.about, f"Option: --{entry.names.option} {_value_of(entry)}"]
    else:
        parts.append(_without_args(text_of(entry.path)))
        parts += more_about(entry)
        prefix = PREFIXES[entry.kind]
        if options := own_options(prefix, entry.path):
            parts.append("Options:\n" + "\n".join(option_lines(prefix, options.values())))
    if entry.kind not in (*FILES, "weights") and (recipes := uses(entry)):
        names = textwrap.indent(textwrap.fill(", ".join(recipes), WIDTH - 2), "  ")
        parts.append(f"Recipes that name it:\n{names}")
    if line := line_to_try(entry):
        parts.append(f"Try:\n  {line}")
    return "\n\n".join(parts)


def _without_args(text: str) -> str:
    """Return a docstring without what follows from its list of arguments on."""
    return text.partition("\nArgs:\n")[0].partition("\nRaises:\n")[0].rstrip()


def option_lines(
    prefix: str, options: Iterable[Option], now: dict[str, str] | None = None
) -> Iterator[str]:
    """Yield the lines about options.

    Args:
        prefix: What stands before their names.
        options: The options.
        now: What recipe and command line set them to.
    """
    for option in options:
        facts = [option.takes]
        if now and option.name in now:
            facts.append(f"now {now[option.name]}")
        facts.append("required" if option.default is None else f"default {option.default}")
        known = "" if option.is_switch else f"[{'; '.join(filter(None, facts))}]"
        text = f"{option.about} {known}".strip()
        indent = " " * 6
        yield f"  {_flag(prefix, option)}"
        yield textwrap.fill(
            text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
        )


def _flag(prefix: str, option: Option) -> str:
    return "--" + ".".join(filter(None, [prefix, option.name]))


def uses(entry: Entry) -> list[str]:
    """Return the recipes that name a thing, those that run anywhere first."""
    key = entry.names.option.rpartition(".")[2] if entry.names else None
    found = [name for name in recipe_names() if _names(_recipe(name), key, entry.name)]
    return sorted(found, key=lambda name: ("/" in name, name))


@cache
def _recipe(name: str) -> Any:
    import yaml  # which takes a while

    return yaml.load(recipe_text(name), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _names(node: Any, key: str | None, wanted: str) -> bool:
    """Return whether a recipe has a value: of a key, or as a class."""
    if isinstance(node, list):
        return any(_names(each, key, wanted) for each in node)
    if not isinstance(node, dict):
        return False
    for name, value in node.items():
        if name == (key or "class_path") and str(value).rpartition(".")[2] == wanted:
            return True
        if _names(value, key, wanted):
            return True
    return False


def line_to_try(entry: Entry) -> str | None:
    """Return a command that uses a thing; None where it is only a base of others."""
    fit = "zoo fit --config"
    if entry.kind == "recipes":
        return f"{fit} {entry.name}"
    if entry.kind == "weights":
        return f"zoo predict --weights {entry.name} --inputs FILE"
    if entry.kind == "studies":
        return f"zoo sweep --config {entry.name}"
    if entry.kind == "overlays":
        return f"{fit} inception --config {entry.name}"
    if entry.names is not None:
        return f"{fit} {entry.names.recipe} --{entry.names.option} {_value_of(entry)}"
    if recipes := uses(entry):
        return f"{fit} {recipes[0]}"
    if entry.name.endswith("Inputs"):
        return "zoo predict --ckpt_path best --inputs FILE"
    if entry.kind == "data":
        recipe = _RECIPES[entry.path.split(".")[1]]
        options = own_options("data", entry.path)
        needed = [name for name, option in options.items() if option.default is None]
        words = [f"--data.{name} {name.upper()}" for name in needed]
        return " ".join([fit, recipe, "--data", entry.name, *words])
    return f"{fit} resnet --model.net {entry.name}" if entry.kind == "nets" else None


def _value_of(entry: Entry) -> str:
    return f"val/{entry.name}" if entry.kind == "metrics" else entry.name


def places_of(name: str) -> Iterator[tuple[str, str, Option]]:
    """Yield section, class and option for each class that takes an option of that name.

    An option of the run stands in no section, and in place of the class are its verbs.
    """
    for verb in VERBS:
        yield from (("", f"zoo {verb}", each) for each in run_options(verb) if each.name == name)
    for prefix, path in _classes_with_options():
        option = own_options(prefix, path).get(name)
        if option is not None:
            yield prefix, path.rpartition(".")[2], option


def _classes_with_options() -> Iterator[tuple[str, str]]:
    """Yield section and dotted name of each class whose options one sets."""
    yield from FIXED.items()
    for kind, prefix in PREFIXES.items():
        yield from ((prefix, entry.path) for entry in entries(kind))


def _option_near(name: str) -> str | None:
    """Return the option that may be meant by a name that nothing has."""
    written = name.replace("-", "_")
    names = {option.name: None for option in RUN_OPTIONS}
    for prefix, path in _classes_with_options():
        names |= dict.fromkeys(own_options(prefix, path))
    return OPTIONS_CALLED.get(written) or nearest(written, names, 0.8)


def _classes_of(places: list[tuple[str, str, Option]]) -> dict[tuple[str, Option], list[str]]:
    """Return each option once, with the classes that take it."""
    classes: dict[tuple[str, Option], list[str]] = {}
    for prefix, name, option in places:
        classes.setdefault((prefix, option), []).append(name)
    return classes


def _about_option(places: list[tuple[str, str, Option]]) -> Iterator[str]:
    for (prefix, option), classes in _classes_of(places).items():
        yield from option_lines(prefix, [option])
        for value, meaning in option.meanings:
            yield f"        {value}: {meaning}"
        yield textwrap.fill(
            f"of {', '.join(classes)}", WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6
        )


def _json_of(entry: Entry, *, whole: bool) -> dict[str, Any]:
    about: dict[str, Any] = {"kind": entry.kind, "name": entry.name, "about": entry.about}
    if entry.names is not None and entry.names.of:
        about["of"] = entry.names.of
    if not whole:
        return about
    if entry.path:
        about["text"] = _without_args(text_of(entry.path))
        about["options"] = [
            _option_json(PREFIXES[entry.kind], option)
            for option in own_options(PREFIXES[entry.kind], entry.path).values()
        ]
    elif entry.kind == "weights":
        about["card"] = card_of(entry.name)
    elif entry.names is None:
        about["recipe"] = _recipe(entry.name)
    if entry.kind not in (*FILES, "weights"):
        about["recipes"] = uses(entry)
    return about | {"try": line_to_try(entry)}


def _option_json(prefix: str, option: Option) -> dict[str, Any]:
    import yaml

    return {
        "option": _flag(prefix, option),
        "about": option.about,
        "takes": option.takes,
        "choices": list(option.choices),
        "default": None if option.default is None else yaml.safe_load(option.default),
        "required": option.default is None,
    }
