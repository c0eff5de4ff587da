"""What a run's name says was varied: the options that differ from the recipe, shortened."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from zoo.cli.config import Layer, flag_values, read_word
from zoo.cli.sections import PLACES, sections_of

#: In bytes: longer names are cut between options. In characters: longer values are cut within.
_LONGEST_NAME, _LONGEST_VALUE = 80, 24
#: Options about how and where a run runs, not what it learns from what.
ASIDE = {
    "wandb",
    "wandb_checkpoint",
    "wandb_group",
    "wandb_notes",
    "wandb_tags",
    "wandb_watch",
    "print_config",
    "data.num_workers",
    "data.resident",
    "checkpoint.every_n_train_steps",
    "checkpoint.stop_seconds",
    "trainer.accelerator",
    "trainer.barebones",
    "trainer.benchmark",
    "trainer.default_root_dir",
    "trainer.devices",
    "trainer.enable_autolog_hparams",
    "trainer.enable_checkpointing",
    "trainer.enable_model_summary",
    "trainer.enable_progress_bar",
    "trainer.log_every_n_steps",
    "trainer.logger",
    "trainer.max_epochs",  # these grow where a run goes on under its name
    "trainer.max_steps",
    "trainer.max_time",
    "trainer.min_epochs",
    "trainer.min_steps",
    "trainer.model_registry",
    "trainer.num_nodes",
    "trainer.num_sanity_val_steps",
    "trainer.profiler",
    "trainer.strategy",
}

#: What comes last, as it says little about what was tried.
_LAST = re.compile(r"trainer\.(limit_|overfit_|fast_dev)")


def varied(recipes: list[Path], layers: list[Layer], flags: list[str]) -> str:
    """Return what differs from the first recipe, such as ``smoke,norm=group``; maybe nothing.

    Args:
        recipes: The files behind ``--config``; of those after the first the names are said.
        layers: The layers of the configuration.
        flags: The flags, with the short names of our classes written out.
    """
    parts = [path.stem for path in recipes[1:] if path.parent.name != "trainer"]
    different = sorted(_different(layers, flags), key=lambda pair: _LAST.match(pair[0]) is not None)
    given = {name.removesuffix("_everything"): value for name, value in different}
    count = Counter(name.rpartition(".")[2] for name in given)
    for name, value in given.items():
        *outer, last = name.split(".")
        short = last if count[last] == 1 else ".".join([*outer[-1:], last])
        parts.append(f"{short}={_shortened(value, is_class=name in PLACES)}")
    parts = [re.sub(r"[^\w.+=-]+", "_", unicodedata.normalize("NFC", part)) for part in parts]
    kept: list[str] = []
    while parts and len(",".join([*kept, parts[0]]).encode()) <= _LONGEST_NAME:
        kept.append(parts.pop(0))
    return ",".join([*kept, *([f"+{len(parts)}"] if parts else [])])


def _different(layers: list[Layer], flags: list[str]) -> Iterator[tuple[str, str]]:
    """Yield each option that a flag sets to something else than it would be without."""
    before = {each.prefix: each for each in sections_of(layers, [])}
    sections = {each.prefix: each for each in sections_of(layers, flags)}
    for flag, given in flag_values(flags):
        name, value = flag.rstrip("+"), "true" if given is None else given
        if name in ASIDE:
            continue
        if name in sections:
            if value != before[name].path:
                yield name, value
            continue
        prefix, _, last = name.rpartition(".")
        section = sections.get(prefix)
        option = section.options.get(last) if section else None
        if name == "data.root" and option is not None and option.default is not None:
            continue  # where a known set lies
        was = before[prefix].now.get(last) if section else None
        if was is None and option is not None:
            was = option.default
        if was is None or read_word(was) != read_word(value):
            yield name, value


def _shortened(value: str, *, is_class: bool) -> str:
    """Return a value without what a name does not need: folders, modules, brackets."""
    value = value.strip("[]{} ").replace(" ", "")
    if "/" in value or "\\" in value:
        value = Path(value.replace("\\", "/")).name
    elif is_class:
        value = value.rpartition(".")[2]
    return value[:_LONGEST_VALUE]
