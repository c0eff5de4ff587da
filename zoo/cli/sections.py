"""The sections of a recipe, the options that each takes, and what is meant by one that none takes.

All is read from source, so that a misspelt option is refused before torch is imported.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Any, NamedTuple

from datamodules.core.errors import nearest
from zoo.catalog.contents import exports, question
from zoo.catalog.options import Option, as_yaml, options_of, own_options
from zoo.catalog.source import look_up
from zoo.cli.config import Layer, class_paths, flag_values, refuse_stray, value_of
from zoo.cli.values import check_value
from zoo.errors import OptionError

#: The sections that have one class whatever the recipe.
FIXED = {
    "trainer": "zoo.cli.trainer.Trainer",
    "checkpoint": "zoo.callbacks.checkpoints.Checkpoints",
}
#: The options that belong to no class.
RUN_OPTIONS = (
    Option(
        "config",
        "A recipe: a YAML file, or the name of a packaged one. Later ones win over earlier ones.",
        ("a text",),
        default="null",
    ),
    Option(
        "ckpt_path",
        "A checkpoint to start from: a file, or last or best of the run begun last, of the recipe "
        "where one is given (RECIPE:best is the same); the folder of a run, whose best is meant; "
        "for fit, last of the one begun last that has not come to its end.",
        ("a file",),
        choices=("last", "best"),
        default="null",
    ),
    Option(
        "weights",
        "The same by a name: weights that come with the package (`zoo list weights`), or "
        "hf:owner/name of the Hugging Face hub, perhaps with @COMMIT.",
        ("a name",),
        default="null",
    ),
    Option(
        "init_from",
        "A checkpoint, or the name of weights, that a training starts from: all that fit by name "
        "and shape, the last layer only where the classes are the same; what was taken and left "
        "is told.",
        ("a file or a name",),
        default="null",
    ),
    Option(
        "inputs",
        "Files, folders or texts to predict; the data's test set where it is left out.",
        ("texts",),
        default="null",
    ),
    Option(
        "quiet",
        "Leaves out the table of what was understood, before the first step.",
        default="false",
    ),
    Option(
        "json",
        "Writes one JSON document to the standard output, all else to the other.",
        default="false",
    ),
    Option("seed_everything", "The seed of all that is random.", ("a whole number",), default="0"),
    Option(
        "wandb",
        "Weights & Biases: auto is online where this machine is logged in, else offline, and off "
        "for test and validate.",
        choices=("auto", "online", "offline", "off"),
        default="auto",
    ),
    Option(
        "wandb_checkpoint",
        "Uploads the best checkpoint as an artifact of the W&B run.",
        choices=("true", "false"),
        default="false",
    ),
    Option(
        "wandb_group",
        "The group that the W&B run belongs to; left out: its recipe, or its study.",
        ("a text",),
        default="null",
    ),
    Option(
        "wandb_tags",
        "Tags of the W&B run, with commas between them, besides its task, net, data and recipe.",
        ("texts",),
        default="null",
    ),
    Option("wandb_notes", "What the W&B run's page says about it.", ("a text",), default="null"),
    Option(
        "wandb_watch",
        "Logs the norm of each layer's gradient and weights to W&B, at log points.",
        choices=("true", "false"),
        default="false",
    ),
    Option(
        "trust",
        "A package whose classes the recipe may name, besides those it may in any case.",
        ("a text",),
        default="[]",
    ),
    Option(
        "print_config",
        "Prints the resolved recipe, which can be run again, and ends.",
        default="false",
    ),
)
#: The options of the run that only some verbs have a use for.
_ONLY_OF = {
    "init_from": ("fit", "check", "bench"),
    "weights": ("validate", "test", "predict"),
    "inputs": ("predict",),
    "wandb": ("fit", "validate", "test"),
    "wandb_checkpoint": ("fit",),
    "wandb_group": ("fit", "validate", "test"),
    "wandb_tags": ("fit", "validate", "test"),
    "wandb_notes": ("fit", "validate", "test"),
    "wandb_watch": ("fit",),
    "ckpt_path": ("fit", "check", "validate", "test", "predict"),
}
#: The options that one verb alone has.
_OPTIONS_OF = {
    "bench": (
        Option(
            "batch_size",
            "Samples in a batch, or several sizes, such as 1,2,4,8; left out: the recipe's.",
            ("whole numbers",),
            default="null",
        ),
        Option(
            "repeats",
            "How often each is timed; figures are medians, between the least and the most.",
            ("a whole number",),
            default="5",
        ),
        Option(
            "against",
            "What is timed in turns with the recipe: another one, or options under which it is "
            "another, such as model.net.norm=group.",
            ("texts",),
            default="null",
        ),
    )
}
#: In the order in which options of one name are proposed.
PLACES = ("data", "model", "model.net", *FIXED)
_MISSING = " is missing; set it in a recipe or on the command line"
#: Whose nets go by their short names as ours do.
_NETS_OF_OTHERS = ("torch.nn", "torchvision.models")
#: What the parser takes beside the names of options.
_BESIDE = {"class_path", "init_args", "dict_kwargs", "help"}
#: What other programs call an option.
OPTIONS_CALLED = {
    "epochs": "max_epochs",
    "steps": "max_steps",
    "learning_rate": "lr",
    "wd": "weight_decay",
    "scheduler": "schedule",
    "warmup": "warmup_steps",
    "bs": "batch_size",
    "workers": "num_workers",
    "gpus": "devices",
    "device": "accelerator",
    "amp": "precision",
    "fp16": "precision",
    "checkpoint": "ckpt_path",
    "ckpt": "ckpt_path",
    "resume": "ckpt_path",
    "output_dir": "default_root_dir",
    "random_seed": "seed_everything",
}


def run_options(verb: str) -> list[Option]:
    """Return the options of a verb that belong to no class."""
    shared = [option for option in RUN_OPTIONS if verb in _ONLY_OF.get(option.name, (verb,))]
    return [*_OPTIONS_OF.get(verb, ()), *shared]


class Section(NamedTuple):
    """A place of a recipe that holds the options of a class.

    Args:
        prefix: Its dotted name, ``model.net`` say.
        path: The dotted name of the class; None where none is named.
        options: The options that it takes.
        now: What the layers set some of them to.
    """

    prefix: str
    path: str | None
    options: dict[str, Option]
    now: dict[str, str]

    @property
    def is_ours(self) -> bool:
        """Whether these are all options that it takes, which others may tell at run time alone."""
        return self.path is not None and self.path.split(".")[0] in ("zoo", "datamodules")


def sections_of(layers: list[Layer], flags: list[str]) -> list[Section]:
    """Return the sections with the classes that layers and flags name.

    Args:
        layers: The layers of the configuration.
        flags: The flags, with the short names of our classes written out.
    """
    sections = []
    for prefix in PLACES:
        key = prefix.replace("model.net", "model.init_args.net")
        path = FIXED.get(prefix) or _class_of(key, layers, flags)
        options = own_options(prefix, path) if path else {}
        init = "" if prefix in FIXED else ".init_args"
        values = {name: value_of(f"{key}{init}.{name}", layers, flags) for name in options}
        now = {
            name: value if isinstance(value, str) else as_yaml(value)
            for name, value in values.items()
            if value is not None
        }
        sections.append(Section(prefix, path, options, now))
    return sections


def _class_of(key: str, layers: list[Layer], flags: list[str]) -> str | None:
    """Return the dotted name of the class in a section, as it is said last."""
    named: Any = None
    for layer, words in [*((layer, []) for layer in layers), ({}, flags)]:
        short = value_of(key, [layer], words)
        chosen = value_of(f"{key}.class_path", [layer], words)
        named = chosen or (short if isinstance(short, str) else None) or named
    return class_paths().get(named, named) if isinstance(named, str) else None


def check_flags(layers: list[Layer], flags: list[str]) -> None:
    """Check the flags: their names, the classes that they name, and values as far as source tells.

    Args:
        layers: The layers of the configuration, a checkpoint's included.
        flags: The flags, with the short names of our classes written out.

    Raises:
        OptionError: If there is no such option or class, or one takes no such value.
    """
    sections, of_run = sections_of(layers, flags), {option.name: option for option in RUN_OPTIONS}
    _check_classes({}, flags)
    refuse_stray(flags)
    for flag in flags:
        name = flag.partition("=")[0].removeprefix("--").rstrip("+").replace(".init_args", "")
        if not flag.startswith("--") or not name or _is_known(name, sections, set(of_run)):
            continue
        near = meant(name, sections, of_run)
        if near is not None:
            raise OptionError(f"--{name}", " is not known", f"--{near}")
        raise OptionError(f"--{name}", f" is not known; {_there_are(name, sections)}")
    for name, value in flag_values(flags):
        section = _place_of(name, sections)
        options = _all_options(section) if section else of_run
        option = options.get(name.removeprefix(f"{section.prefix}.") if section else name)
        if option is not None and value is not None:
            check_value(name, option, value, is_word=True)


def check_layer(layers: list[Layer]) -> None:
    """Check the last of some layers, as far as source tells: classes, options and values.

    Raises:
        OptionError: If there is no such option or class, or one takes no such value.
    """
    sections = sections_of(layers, [])
    _check_classes(layers[-1], [])
    for section in sections:
        key = section.prefix.replace("model.net", "model.init_args.net")
        init = "" if section.prefix in FIXED else ".init_args"
        given = value_of(f"{key}{init}", layers[-1:], [])
        for name, value in given.items() if isinstance(given, dict) else ():
            whole = f"{section.prefix}.{str(name).rstrip('+')}"
            if not _is_known(whole, sections, set()):
                near = meant(whole, sections, ())
                rest = "" if near else f"; {_there_are(whole, sections)}"
                raise OptionError(whole, f" is not known{rest}", near)
            if option := _all_options(section).get(name):
                check_value(whole, option, value, is_word=False)


def check_required(layers: list[Layer], flags: list[str]) -> None:
    """Check that what our classes cannot do without is said.

    Args:
        layers: The layers of the configuration.
        flags: The flags, with the short names of our classes written out.

    Raises:
        OptionError: If an option is missing.
    """
    names = (flag.partition("=")[0].removeprefix("--") for flag in flags)
    whole = {name.removesuffix(".init_args") for name in names if name.endswith(".init_args")}
    for section in sections_of(layers, flags):
        if not section.is_ours or section.prefix in whole:
            continue
        for name, option in section.options.items():
            if option.default is None and name not in section.now:
                raise OptionError(f"{section.prefix}.{name}", _MISSING)


def _all_options(section: Section) -> dict[str, Option]:
    """Return what a class of ours takes, the data's facts among it."""
    return (options_of(section.path) or {}) if section.is_ours and section.path else {}


def _check_classes(layer: Layer, flags: list[str]) -> None:
    """Check the short names of tasks, nets and data, as far as no other package may have them.

    Raises:
        OptionError: If there is no such class.
    """
    for prefix, kind in (("model", "tasks"), ("model.net", "nets"), ("data", "data")):
        name = _class_of(prefix.replace("model.net", "model.init_args.net"), [layer], flags)
        if name is None or not name.isidentifier():  # one of ours has its package before it
            continue
        if name == "null":
            raise OptionError(prefix, _MISSING)
        if kind == "nets" and any(look_up(package, name) for package in _NETS_OF_OTHERS):
            continue
        hint = question(name, [each for each, _ in exports(kind)])
        hint = hint or f"`zoo list {kind}` shows what there is"
        raise OptionError(prefix, f": there is no class {name!r}; {hint}")


def _place_of(name: str, sections: list[Section]) -> Section | None:
    """Return the section in which an option would stand."""
    inside = (each for each in sections if name.startswith(f"{each.prefix}."))
    return max(inside, key=lambda each: len(each.prefix), default=None)


def _is_known(name: str, sections: list[Section], of_run: set[str]) -> bool:
    """Return whether there is an option, as far as that can be told without its class."""
    prefixes = [section.prefix for section in sections]
    if name in prefixes or name.removesuffix(".help") in prefixes:
        return True
    section = _place_of(name, sections)
    if section is None:
        return name in of_run
    if not section.is_ours or section.path is None:
        return True
    first = name.removeprefix(f"{section.prefix}.").split(".")[0]
    return first in (options_of(section.path) or {}) or first in _BESIDE


def meant(name: str, sections: list[Section], of_run: Iterable[str]) -> str | None:
    """Return the option that is meant by a name that is not known.

    In its own section one that starts so; anywhere one of that very name, or of the name that it
    has here; then one that is spelt nearly like it, there before elsewhere.
    """
    section = _place_of(name, sections)
    everything = [f"{each.prefix}.{option}" for each in sections for option in each.options]
    everything += of_run
    last = name.rpartition(".")[2]
    by_last: dict[str, str] = {}
    for whole in everything:
        by_last.setdefault(whole.rpartition(".")[2], whole)
    beside = list(section.options) if section else list(of_run)
    prefix = f"{section.prefix}." if section else ""
    longer = next((each for each in beside if len(last) > 2 and each.startswith(last)), None)
    if longer is not None:
        return prefix + longer
    if exact := by_last.get(last) or by_last.get(OPTIONS_CALLED.get(last, "")):
        return exact
    if near := nearest(last, beside, 0.72):
        return prefix + near
    if section is None and "." in name:
        return nearest(name, everything, 0.72)
    elsewhere = nearest(last, by_last, 0.8)
    return by_last[elsewhere] if elsewhere else None


def _there_are(name: str, sections: list[Section]) -> str:
    section = _place_of(name, sections)
    if section is None:
        return (
            "options of the task start with --model., of its net with --model.net., of the data "
            "with --data., of Lightning's Trainer with --trainer."
        )
    known = textwrap.shorten(", ".join(sorted(section.options)), 250, placeholder=" ...")
    return f"{str(section.path).rpartition('.')[2]} takes {known}"
