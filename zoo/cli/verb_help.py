"""``zoo fit --help`` and its like: the options of what a recipe names, read from source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from zoo.catalog.contents import VERBS, entries, search
from zoo.catalog.options import Option, options_of, own_options
from zoo.cli.config import class_paths, expand_flags, read_layer
from zoo.cli.guide import PREFIXES, all_about, option_lines, table
from zoo.cli.request import DEFAULTS, Request, find_checkpoint, recipe_of_run
from zoo.cli.sections import FIXED, Section, run_options, sections_of

#: Whose classes are shown without the parser, which refuses those that are not trusted.
_READABLE = ("torch", "torchvision", "timm", "lightning", "zoo", "datamodules")
_KINDS = {prefix: kind for kind, prefix in PREFIXES.items()}
_TITLES = {"checkpoint": "which checkpoints are kept", "trainer": "Lightning's Trainer"}
#: What comes first: where one trains what is the recipe's own, else what a checkpoint leaves open.
_ORDER = ("model.net", "model", "data", "checkpoint", "trainer")
_ORDER_OF_OTHERS = ("data", "trainer", "model", "model.net")
_CHECKPOINT = ("checkpoint", "--ckpt_path best")
#: Options of the Trainer that verbs which do not train have no use for.
_OF_TRAINING = {
    "accumulate_grad_batches",
    "check_val_every_n_epoch",
    "enable_checkpointing",
    "gradient_clip_algorithm",
    "gradient_clip_val",
    "limit_train_batches",
    "log_every_n_steps",
    "max_epochs",
    "max_steps",
    "max_time",
    "min_epochs",
    "min_steps",
    "num_sanity_val_steps",
    "overfit_batches",
    "reload_dataloaders_every_n_epochs",
    "val_check_interval",
}


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
        if (run := recipe_of_run(request.ckpt_path)) is not None:
            layers.insert(1, run)
    sections = {each.prefix: each for each in sections_of(layers, expand_flags(request.flags))}
    return [sections[prefix] for prefix in (_ORDER if request.trains else _ORDER_OF_OTHERS)]


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
    named = bool(request.recipes or request.ckpt_path)
    yield f"usage: zoo {verb} [RECIPE ...] [--OPTION VALUE ...]"
    yield ""
    yield VERBS[verb]
    if not named:
        what, example = ("recipe", "inception") if request.trains else _CHECKPOINT
        yield f"With a {what} the options of its net, task and data are shown too:"
        yield f"  zoo {verb} {example} --help"
    if not request.trains:
        yield from _run_lines(verb)
    for section in _sections(request):
        if section.prefix == "checkpoint":
            yield from _run_lines(verb)
        options: Iterable[Option] = section.options.values()
        if section.prefix == "trainer" and not request.trains:
            options = (each for each in options if each.name not in _OF_TRAINING)
        if section.prefix in FIXED:
            yield from ["", f"{_TITLES[section.prefix]}:"]
        elif section.path is not None:
            what = {"model.net": "net", "model": "task", "data": "data"}[section.prefix]
            name = section.path.rpartition(".")[2]
            yield from ["", f"{what} {name} (another: --{section.prefix} NAME):"]
        elif not named and (request.trains or section.prefix == "data"):
            yield from ["", f"--{section.prefix} NAME (zoo list {_KINDS[section.prefix]})"]
        yield from option_lines(section.prefix, options, section.now)


def _run_lines(verb: str) -> Iterator[str]:
    yield from ["", "the run:", *option_lines("", run_options(verb))]
