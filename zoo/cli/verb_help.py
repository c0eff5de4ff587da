"""``zoo fit --help`` and its like: the options of what a recipe names, read from source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from zoo.catalog.contents import VERBS, entries, search
from zoo.catalog.options import Option, options_of, own_options
from zoo.cli.config import class_paths, expand_flags, read_layer
from zoo.cli.guide import PREFIXES, all_about, option_lines, table
from zoo.cli.request import DEFAULTS, Request, find_checkpoint
from zoo.cli.sections import FIXED, RUN_OPTIONS, Section, sections_of

#: Whose classes are shown without the parser, which refuses those that are not trusted.
_READABLE = ("torch", "torchvision", "timm", "lightning", "zoo", "datamodules")
_KINDS = {prefix: kind for kind, prefix in PREFIXES.items()}


def help_of(request: Request) -> str | None:
    """Return what a verb's ``--help`` or a section's ``--model.help`` shows.

    None where neither is asked for, or for a section that only the parser knows.

    Raises:
        UserError: If a class is asked for that is not there.
    """
    flags = request.flags
    for place, flag in enumerate(flags):
        name, equals, value = flag.partition("=")
        if name in ("-h", "--help"):
            return "\n".join(_verb_lines(request))
        prefix = name.removeprefix("--").removesuffix(".help")
        if name.endswith(".help") and prefix in _KINDS:
            following = flags[place + 1 :][:1]
            if not equals and following and not following[0].startswith("-"):
                value = following[0]
            rest = flags[:place] + flags[place + 1 + (not equals and bool(value)) :]
            return _section_help(prefix, value, replace(request, flags=rest))
    return None


def _sections(request: Request) -> list[Section]:
    """Return the sections in the order of the help: what is the recipe's own first."""
    layers = [read_layer(path) for path in (DEFAULTS, *request.recipes)]
    if request.ckpt_path is not None:
        find_checkpoint(request, layers)
        recipe = Path(request.ckpt_path).resolve().parents[1] / "recipe.yaml"
        if recipe.is_file():  # a checkpoint's own recipe, without reading the checkpoint
            layers.insert(1, read_layer(recipe))
    sections = {each.prefix: each for each in sections_of(layers, expand_flags(request.flags))}
    order = ("model.net", "model", "data", "checkpoint", "trainer")
    return [sections[prefix] for prefix in order]


def _section_help(prefix: str, name: str, request: Request) -> str | None:
    kind = _KINDS[prefix]
    section = next(each for each in _sections(request) if each.prefix == prefix)
    path = class_paths().get(name, name) or section.path
    if not path:
        return table(entries(kind))
    own = {class_paths()[entry.name]: entry for entry in entries(kind)}
    if path in own:
        return all_about(own[path])
    if "." not in path:
        return "\n".join(all_about(entry) for entry in search(kind, path))
    if path.split(".")[0] not in (*_READABLE, *request.trust) or options_of(path) is None:
        return None
    return "\n".join([path, "", *option_lines(prefix, own_options(prefix, path).values())])


def _verb_lines(request: Request) -> Iterator[str]:
    verb = request.verb
    yield f"usage: zoo {verb} [RECIPE ...] [--OPTION VALUE ...]"
    yield ""
    yield VERBS[verb]
    if not request.recipes and request.ckpt_path is None:
        yield "With a recipe the options of its net, task and data are shown too:"
        yield f"  zoo {verb} inception --help"
    for section in _sections(request):
        if section.prefix in FIXED:
            title = {"checkpoint": "which checkpoints are kept", "trainer": "Lightning's Trainer"}
            if section.prefix == "checkpoint":
                yield from ["", "the run:", *option_lines("", _run_options(verb))]
            yield from ["", f"{title[section.prefix]}:"]
        elif section.path is None:
            if request.recipes or request.ckpt_path:
                continue
            yield from ["", f"--{section.prefix} NAME (zoo list {_KINDS[section.prefix]})"]
            continue
        else:
            kind = {"model.net": "net", "model": "task", "data": "data"}[section.prefix]
            name = section.path.rpartition(".")[2]
            yield from ["", f"{kind} {name} (another: --{section.prefix} NAME):"]
        yield from option_lines(section.prefix, section.options.values(), section.now)


def _run_options(verb: str) -> Iterator[Option]:
    for option in RUN_OPTIONS:
        if option.name != "inputs" or verb == "predict":
            yield option
