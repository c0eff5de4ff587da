"""What a sweep's file says: a base recipe, what is varied, and how it is judged."""

from __future__ import annotations

import itertools
import json
import math
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.core.errors import did_you_mean, one_of, refuse, shown
from datamodules.core.files import nearby
from zoo.catalog.contents import recipes_folder
from zoo.catalog.options import as_yaml, choices_of
from zoo.catalog.other_names import OTHER_NAMES
from zoo.cli.config import Layer, flag_values, read_layer, read_yaml, value_of
from zoo.cli.request import DEFAULTS, Request, check_names, find_recipe, take_apart
from zoo.cli.run_name import ASIDE
from zoo.errors import OptionError, UserError
from zoo.studies.tables import Value, cell

#: What a sweep's file may hold; those without a default have to be there.
_KEYS: dict[str, Any] = {
    "base": None,
    "options": {},
    "vary": None,
    "exclude": [],
    "seeds": [0],
    "metric": None,
    "mode": None,
    "test": False,
    "trials": None,
    "sampler": "tpe",
    "pruner": None,
    "picture": "lines",
}
_NEEDED = ("base", "vary", "metric", "mode")
_NAMES = {
    "mode": ("max", "min"),
    "test": (True, False),
    "sampler": ("tpe", "random"),
    "pruner": (None, "median"),
    "picture": ("lines", "heat_map"),
}
#: How long a search goes on and what is drawn; the base is compared by what it holds.
_MAY_DIFFER = ("trials", "picture", "base")
#: What the first line of ``study.yaml`` begins with, before the options of the command line.
COMMAND = "# zoo sweep"
_RANGES = ("uniform", "log_uniform", "integer")


@dataclass(frozen=True)
class Choice:
    """A value that is tried.

    Args:
        name: What it is called in table and picture.
        options: The dotted options that it sets.
    """

    name: Value
    options: dict[str, Any]


@dataclass(frozen=True)
class Range:
    """Numbers from which a search draws.

    Args:
        kind: ``uniform``, ``log_uniform`` or ``integer``.
        low: The lowest.
        high: The highest.
    """

    kind: str
    low: float
    high: float


@dataclass(frozen=True)
class Varied:
    """Something that differs from run to run.

    Args:
        label: Its column in the table.
        option: The dotted option; of choices that set several, a name.
        values: The values that are tried, or the range that they are drawn from.
    """

    label: str
    option: str
    values: tuple[Choice, ...] | Range

    def choice(self, name: Value) -> Choice:
        """Return the value of that name, or that number of the range."""
        if isinstance(self.values, Range):
            return Choice(name, {self.option: name})
        return next(each for each in self.values if each.name == name)


@dataclass(frozen=True)
class Cell:
    """One run of a sweep.

    Args:
        values: What is varied, by its column, and the name of its value.
        seed: The seed.
        options: The dotted options that make the run.
    """

    values: dict[str, Value]
    seed: int
    options: dict[str, Any]

    @property
    def label(self) -> str:
        """What the run differs by, for the name of its folder."""
        values = {**self.values, "seed": self.seed}
        parts = [f"{name}={cell(value, 4)}" for name, value in values.items()]
        return re.sub(r"[^\w.+=,-]+", "_", ",".join(parts))[:80]


@dataclass(frozen=True)
class Spec:
    """A sweep: what its file says, under the flags of the command line.

    Args:
        name: The study's.
        content: The file's keys and values, with those that it leaves out.
        base: The names of the recipes that are laid over each other.
        flags: The options of the command line.
        trust: Packages whose classes recipes may name.
        varied: What differs from run to run.
    """

    name: str
    content: Layer
    base: tuple[str, ...]
    flags: tuple[str, ...]
    trust: tuple[str, ...]
    varied: tuple[Varied, ...]

    @property
    def seeds(self) -> list[int]:
        """The seeds."""
        return list(self.content["seeds"])

    @property
    def metric(self) -> str:
        """The figure that the runs are judged by, ``val/acc`` say."""
        return str(self.content["metric"])

    @property
    def is_search(self) -> bool:
        """Whether values are drawn, of which the best is looked for."""
        return self.content["trials"] is not None

    @property
    def labels(self) -> list[str]:
        """The columns of what is varied."""
        return [each.label for each in self.varied]

    @property
    def trusts(self) -> list[str]:
        """The words of the command line that trust packages."""
        return [word for package in self.trust for word in ("--trust", package)]

    def grid(self) -> list[Cell]:
        """Return all combinations of values and seeds, but for those that are left out."""
        names = [[c.name for c in v.values] for v in self.varied if not isinstance(v.values, Range)]
        combinations = (dict(zip(self.labels, c, strict=True)) for c in itertools.product(*names))
        return [
            self.cell(values, seed)
            for values in combinations
            if not any(each.items() <= values.items() for each in self.content["exclude"])
            for seed in self.seeds
        ]

    def cell(self, values: dict[str, Value], seed: int) -> Cell:
        """Return the run of some values."""
        options: dict[str, Any] = {}
        for each in self.varied:
            options |= each.choice(values[each.label]).options
        return Cell(values, seed, options)

    def request(self, cell: Cell, *more: str) -> Request:
        """Return the training of a cell.

        Args:
            cell: What is set.
            more: Further words of the command line.
        """
        options = {
            "trainer.devices": 1,
            "checkpoint.monitor": self.metric,
            "checkpoint.mode": self.content["mode"],
        } | self.content["options"]
        recipes = [word for path in self.base for word in ("--config", path)]
        words = [*recipes, *self.trusts, *map(_flag, options.items()), *self.flags]
        words += [*map(_flag, cell.options.items()), f"--seed_everything={cell.seed}", *more]
        return take_apart(["fit", *words])

    def identity(self) -> Layer:
        """Return what makes this sweep another than others, with the base as it is now."""
        kept = {k: v for k, v in self.content.items() if k not in _MAY_DIFFER}
        base = [read_layer(find_recipe(name)) for name in self.base]
        return {"base": base, **kept, "flags": _flags_of(self.flags)}


def _flags_of(words: Sequence[str]) -> dict[str, str | None]:
    """Return the options of a command line that a run learns by."""
    return {name: value for name, value in flag_values(list(words)) if name not in ASIDE}


def words_of(spec: Spec) -> str:
    """Return the options of the command line in one line, as a shell takes them."""
    return " ".join(shlex.join(spec.flags).split())


def _flag(option: tuple[str, Any]) -> str:
    name, value = option
    return f"--{name}={value if isinstance(value, str) else as_yaml(value)}"


def read_spec(
    path: Path,
    content: Layer,
    overlays: Sequence[str] = (),
    flags: Sequence[str] = (),
    trust: Sequence[str] = (),
) -> Spec:
    """Read and check a sweep's file.

    Args:
        path: The file.
        content: What it holds.
        overlays: Recipes that are laid over the base.
        flags: The options of the command line.
        trust: Packages whose classes recipes may name.

    Raises:
        UserError: If something in it is the user's to put right.
    """
    try:
        _check_keys(content)
        content = _KEYS | content
        _check_content(content)
        is_search = content["trials"] is not None
        varied = tuple(_varied(content["vary"], is_search=is_search))
        _check_excluded(content["exclude"], varied, is_search=is_search)
        bases = content["base"] if isinstance(content["base"], list) else [content["base"]]
        over = list(map(find_recipe, overlays))
        found = [*(_base(path, str(each)) for each in bases), *over]
        content["options"] = _without(content["options"], [read_layer(each) for each in over])
        base = tuple(map(_name_of, found))
        spec = Spec(path.stem, content, base, tuple(flags), tuple(trust), varied)
        _check(spec)
    except OptionError as error:
        raise UserError(f"study {str(path)!r}: {error}") from error
    return spec


def _without(options: Layer, layers: list[Layer]) -> Layer:
    """Return the options that no layer sets: what the command line lays over them wins."""
    places = [
        ("model.net.", "model.init_args.net.init_args."),
        ("model.", "model.init_args."),
        ("data.", "data.init_args."),
    ]

    def key(option: str) -> str:
        start, place = next((p for p in places if option.startswith(p[0])), ("", ""))
        return place + option.removeprefix(start)

    return {name: v for name, v in options.items() if value_of(key(name), layers, []) is None}


def _check_keys(content: Layer) -> None:
    for key in content:
        if key not in _KEYS:
            there = did_you_mean(key, _KEYS) or f"; there are {', '.join(_KEYS)}"
            raise OptionError(str(key), f" is not known{there}")
    for key in _NEEDED:
        if content.get(key) is None:
            raise OptionError(key, " is missing; a sweep needs base, vary, metric and mode")


def check_seeds(seeds: Any) -> None:
    """Check that seeds are different whole numbers.

    Raises:
        OptionError: If they are not.
    """
    if not isinstance(seeds, list) or not seeds or not all(type(s) is int for s in seeds):
        raise refuse("seeds", seeds, "give a list of whole numbers, such as [0, 1, 2]")
    if not all(0 <= seed < 2**32 for seed in seeds):
        raise refuse("seeds", seeds, f"give numbers from 0 to {2**32 - 1}")
    if len(set(seeds)) < len(seeds):  # twice the same run is no spread
        raise refuse("seeds", seeds, "name each once")


def _check_content(content: Layer) -> None:
    for key, names in _NAMES.items():
        if not any(content[key] is name or content[key] == name for name in names):
            known = ", ".join(map(as_yaml, names))
            raise refuse(key, content[key], f"give one of {known}")
    seeds, trials = content["seeds"], content["trials"]
    check_seeds(seeds)
    if trials is not None and (type(trials) is not int or trials < 1):
        raise refuse("trials", trials, "give 1 or more, or leave it out for a grid")
    if trials is not None and len(seeds) > 1:
        raise refuse("seeds", seeds, "give a search one seed; a grid compares seeds")
    if trials is not None and content["test"]:
        raise refuse("test", content["test"], "leave it out: a search tests its best run once")
    figures = [f"val/{name}" for name in choices_of("zoo.metrics.names", "FigureName")]
    if content["metric"] not in figures:
        usual = f"val/{OTHER_NAMES.get(str(content['metric']).lower().rpartition('/')[2])}"
        near = did_you_mean(usual if usual in figures else content["metric"], figures)
        hint = near or "; `zoo list metrics` shows them"
        raise refuse("metric", content["metric"], f"give a figure of validation{hint}")
    for key in ("options", "vary"):
        if not isinstance(content[key], dict):
            raise refuse(key, content[key], "give dotted options and their values")
    if content["options"].get("wandb") is False:  # which YAML takes off for
        content["options"] = content["options"] | {"wandb": "off"}
    if not content["vary"]:
        raise refuse("vary", {}, "give at least one option and its values")
    if content["pruner"] is not None and trials is None:
        raise refuse("pruner", content["pruner"], "give trials too: a grid runs all to their end")


def _check_excluded(exclude: Any, varied: tuple[Varied, ...], *, is_search: bool) -> None:
    if exclude and is_search:
        raise refuse("exclude", exclude, "leave it out: a search draws its values")
    if not isinstance(exclude, list) or not all(isinstance(each, dict) for each in exclude):
        raise refuse("exclude", exclude, "give a list of combinations, such as [{norm: batch}]")
    names = {each.label: _ends(each) for each in varied}
    for combination in exclude:
        if not combination:
            raise refuse("exclude", exclude, "name a value in each combination")
        for label, value in combination.items():
            one_of("exclude", label, tuple(names))
            if value not in names[label]:
                known = ", ".join(map(str, names[label]))
                raise refuse(f"exclude.{label}", value, f"give one of {known}")
    names_of_all = itertools.product(*names.values())
    combinations = (dict(zip(names, each, strict=True)) for each in names_of_all)
    if exclude and all(any(e.items() <= c.items() for e in exclude) for c in combinations):
        raise refuse("exclude", exclude, "it leaves no run; leave out less")


def _name_of(recipe: Path) -> str:
    """Return a packaged recipe's name, which is the same on every machine; else the path."""
    folder = recipes_folder().resolve()
    file = recipe.resolve()
    inside = file.is_relative_to(folder)
    return file.relative_to(folder).with_suffix("").as_posix() if inside else str(recipe)


def _base(study: Path, name: str) -> Path:
    """Return the file of a base recipe: beside the study, or as ``--config`` finds it."""
    for file in (study.parent / name, study.parent / f"{name}.yaml"):
        if file.is_file():
            return file
    try:
        return find_recipe(name)
    except OptionError as error:
        raise OptionError("base", error.reason, error.near) from error


def _varied(vary: dict[str, Any], *, is_search: bool) -> Iterator[Varied]:
    lasts = [option.rpartition(".")[2] for option in vary]
    for option, values in vary.items():
        last = option.rpartition(".")[2]
        label = last if lasts.count(last) == 1 and last != "seed" else option
        yield Varied(label, option, _values(option, values, is_search=is_search))


def _values(option: str, values: Any, *, is_search: bool) -> tuple[Choice, ...] | Range:
    key = f"vary.{option}"
    if isinstance(values, dict):
        kind, given = next(iter(values.items()), ("", None))
        if len(values) != 1 or kind not in (*_RANGES, "choice"):
            known = ", ".join((*_RANGES, "choice"))
            raise refuse(key, values, f"give a list of values, or one of {known}")
        if not is_search:
            raise refuse(key, values, "give a list of values, or trials for a search")
        if kind != "choice":
            return _range(key, kind, given)
        values = given
    if not isinstance(values, list) or not values:
        raise refuse(key, values, "give a list of at least one value")
    choices = tuple(_choice(key, option, value) for value in values)
    names = [json.dumps(choice.name) for choice in choices]
    if doubles := [name for name in names if names.count(name) > 1]:
        raise refuse(key, values, f"{doubles[0]} stands twice; remove one of them")
    return choices


def _choice(key: str, option: str, value: Any) -> Choice:
    if isinstance(value, dict) and value.keys() == {"name", "value"}:
        name, value = value["name"], value["value"]
        if not isinstance(name, str | int | float):
            raise refuse(f"{key}.name", name, "give a text")
        several = isinstance(value, dict) and value and all("." in str(each) for each in value)
        return Choice(name, value if several else {option: value})
    if isinstance(value, float) and not math.isfinite(value):
        raise refuse(key, value, "give numbers that are finite")
    if isinstance(value, list | dict):
        return Choice(json.dumps(value, ensure_ascii=False), {option: value})
    return Choice(as_yaml(value) if value is None or isinstance(value, bool) else value,
                  {option: value})  # fmt: skip


def _range(key: str, kind: str, given: Any) -> Range:
    numbers = [each for each in given if type(each) in (int, float)] if type(given) is list else []
    whole = kind != "integer" or all(type(each) is int for each in numbers)
    if len(numbers) != 2 or not whole or not all(map(math.isfinite, numbers)):
        what = "whole numbers" if kind == "integer" else "numbers"
        raise refuse(key, {kind: given}, f"give two {what}, the lowest and the highest")
    low, high = numbers
    if low >= high:
        raise refuse(key, {kind: given}, "give the lowest first, then a higher one")
    if kind == "log_uniform" and low <= 0:
        raise refuse(key, {kind: given}, "give numbers above 0")
    return Range(kind, low, high)


# ------------------------------------------------------------------- against the base recipe


def _check(spec: Spec) -> None:
    """Refuse, before anything runs, options that no class has and values outside of their set."""
    layers = [read_layer(path) for path in (DEFAULTS, *map(find_recipe, spec.base))]
    flags = list(flag_values(list(spec.flags)))
    setter: dict[str, str] = {}
    for each in spec.varied:
        options = {name for value in _ends(each) for name in each.choice(value).options}
        for name in sorted(options & setter.keys()):
            remedy = f" and vary.{setter[name]} both set {name}; leave it out of one of them"
            raise OptionError(f"vary.{each.option}", remedy)
        setter |= dict.fromkeys(options, each.option)
        for name in sorted(options & {name for name, _ in flags}):
            raise OptionError(f"--{name}", " is varied by the study; leave it out")
        if "seed_everything" in options:
            raise OptionError(f"vary.{each.option}", " are the seeds; give them as seeds")
    given = [{name: value} for name, value in (*spec.content["options"].items(), *flags)]
    given += [each.choice(value).options for each in spec.varied for value in _ends(each)]
    for name, value in (pair for options in given for pair in options.items()):
        if name in ("trainer.devices", "trainer.num_nodes") and str(value) != "1":
            raise refuse(name, value, "leave it out: a run has one device, and --jobs several runs")
    checked: set[str] = set()
    for corner in _corners(spec):
        if (words := json.dumps(corner.options)) not in checked:
            checked.add(words)
            check_names(spec.request(corner), [*layers])


def _ends(varied: Varied) -> list[Value]:
    values = varied.values
    if isinstance(values, Range):
        whole = values.kind == "integer"
        return [int(end) if whole else end for end in (values.low, values.high)]
    return [choice.name for choice in values]


def _corners(spec: Spec) -> Iterator[Cell]:
    """Yield runs in which each value stands once at least, ranges by their ends."""
    ends = [_ends(each) for each in spec.varied]
    for chosen in itertools.islice(itertools.product(*ends), 1000):
        yield spec.cell(dict(zip(spec.labels, chosen, strict=True)), spec.seeds[0])


# ------------------------------------------------------------------- against what was swept before


def check_folder(spec: Spec, folder: Path) -> None:
    """Refuse a folder that a sweep of the same name and of other values writes.

    Raises:
        UserError: If it does.
    """
    path = folder / "study.yaml"
    if not path.is_file():
        return
    was = read_yaml(path, "study", "base: and vary:")
    now = {name: value for name, value in spec.content.items() if value is not None}
    then = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix(COMMAND)
    ours = _compared(now, spec.base, words_of(spec))
    theirs = _compared(was, was.get("base", ()), then)
    if difference := difference_of(theirs, ours):
        raise UserError(
            f"the study in {nearby(folder)!r} {difference}; give what it began with, another "
            "trainer.default_root_dir, or remove that folder"
        )


def _compared(content: Layer, base: Sequence[str], line: str) -> Layer:
    """Return what tells a sweep from others, as far as its folder knows."""
    words: list[str] = []
    with suppress(ValueError):  # somebody has changed the line
        words = shlex.split(line)
    kept = {name: value for name, value in content.items() if name not in _MAY_DIFFER}
    return {"base": [Path(name).stem for name in base], **kept, "flags": _flags_of(words)}


def difference_of(was: Layer, now: Layer, place: str = "") -> str | None:
    """Return what a study has that another one has not, in words; None where they are the same.

    >>> difference_of({"seeds": [0], "vary": {"lr": [1]}}, {"seeds": [0], "vary": {"lr": [2]}})
    'has vary.lr [1], not [2] as here'
    """
    for name in dict.fromkeys([*was, *now]):
        before, after = was.get(name), now.get(name)
        whole = f"{place}.{name}" if place else str(name)
        if isinstance(before, dict) and isinstance(after, dict):
            if inner := difference_of(before, after, whole):
                return inner
        elif before != after:
            if place == "" and name == "base":
                return "began with another base recipe than the one here"
            return f"has {whole} {_short(before)}, not {_short(after)} as here"
    return None


def _short(value: Any) -> str:
    text = shown(value)
    return text if len(text) <= 60 else text[:57] + "..."
