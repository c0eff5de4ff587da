"""The layers of a configuration and their order.

Code defaults < ``zoo/defaults.yaml`` < checkpoint < recipes, left to right < flags: the last one
written wins. Choosing another optimiser in a later layer drops the earlier layers' ``lr``,
``weight_decay``, ``momentum`` and ``beta2``, which were meant for the earlier optimiser.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Hashable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from datamodules.core.errors import refuse
from zoo.catalog.contents import exports
from zoo.catalog.facts import FACTS
from zoo.errors import OptionError, UserError
from zoo.run.plain import check_plain

_OWNED_BY_THE_OPTIMIZER = ("lr", "weight_decay", "momentum", "beta2")
_FIRST_OPTIMIZER = "adamw"
_CLASS_KEYS = {"class_path", "model", "net", "data"}
#: What only the command line may say.
_NOT_IN_RECIPES = ("trust", "config", "inputs", "weights", "quiet")
#: The flags that name a class, and the order in which they come before all others.
_NAME_CLASSES = {
    "--model": 0,
    "--data": 0,
    "--trainer.logger": 0,
    "--trainer.profiler": 0,
    "--trainer.strategy": 0,
    "--model.net": 1,
}
#: Lists and mappings within each other in a flag's value.
_DEEPEST = 50

Layer = dict[str, Any]


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that stands twice, of which YAML parsers else take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[str, int] = {}
        for key_node, _ in node.value:
            key = str(key_node.value)
            line = key_node.start_mark.line + 1
            if key in seen and key != "<<":
                raise UserError(f"key {key!r} stands twice, in lines {seen[key]} and {line}")
            seen[key] = line
        return super().construct_mapping(node, deep)


# The parser takes JSON from here, which has no dates; they stay the text that they are.
_StrictLoader.add_constructor("tag:yaml.org,2002:timestamp", lambda _, node: str(node.value))


class _Dumper(yaml.SafeDumper):
    """Writes what ``_StrictLoader`` reads back as it was."""


def _dump_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # Between single quotes YAML folds some of Unicode's line breaks.
    style = '"' if {"\x85", "\u2028", "\u2029"} & set(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _dump_text)

# YAML 1.1 takes 1e-3 for a word; everybody who writes it in a recipe means the number.
for each in (_StrictLoader, _Dumper):
    each.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$"),
        list("-+.0123456789"),
    )


def dump_yaml(node: Any) -> str:
    """Return YAML that is read back as it was, by ``read_layer`` too."""
    text: str = yaml.dump(node, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


def read_yaml(path: Path, what: str, needs: str) -> Layer:
    """Read a YAML file strictly.

    Args:
        path: The file.
        what: What it is called in a message, ``recipe`` say.
        needs: What it has to hold, in words.

    Raises:
        UserError: If the file is empty, is not YAML, has a key twice, or is no mapping.
    """
    named = f"{what} {str(path)!r}"
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except UserError as error:
        raise UserError(f"{named}: {error}; remove one of them") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{named} is not UTF-8 text; save it as UTF-8") from error
    except OSError as error:
        raise UserError(f"{named} cannot be read: {error.strerror}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        problem = f"is not YAML ({error.problem}); mend it there"
        if "'\\t'" in (error.problem or ""):
            problem = "has a tab; indent with spaces"
        raise UserError(f"{named}, line {line}, {problem}") from error
    except RecursionError as error:
        raise UserError(f"{named} is nested too deeply; flatten it") from error
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        raise UserError(f"{named} is not a YAML file: {problem}") from error
    if content is None:
        raise UserError(f"{named} is empty; it needs {needs}")
    if not isinstance(content, dict):
        raise UserError(f"{named} is no mapping; it has to hold options such as {needs}")
    return content


def read_flag(option: str, text: str) -> Any:
    """Return what a word of the command line stands for, as YAML.

    Raises:
        OptionError: If it is not YAML.
    """
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except (yaml.YAMLError, UserError) as error:
        raise refuse(option, text, "give a value as YAML has it") from error


def read_layer(path: Path) -> Layer:
    """Read a recipe strictly.

    Raises:
        UserError: If the file is empty, is not YAML, has a key twice, is no mapping of options,
            or has arguments beside ``class_path`` instead of under ``init_args``.
    """
    content = read_yaml(path, "recipe", "model: and data:")
    _check_layer(path, content)
    if content.get("wandb") is False:
        content["wandb"] = "off"  # which YAML takes for false
    names = class_paths()
    for place, node in _mappings(content):
        beside = [key for key in node if key not in ("class_path", "init_args", "dict_kwargs")]
        if "class_path" in node and beside:
            raise UserError(
                f"recipe {str(path)!r}: {place} has {beside[0]!r} beside class_path; "
                "arguments of the class belong under init_args"
            )
        _write_out(node, names)
    return content


def _write_out(node: dict[str, Any], names: Mapping[str, str]) -> bool:
    """Write out the short names of classes in a mapping; return whether there were any."""
    short = [key for key in _CLASS_KEYS & node.keys() if str(node[key]) in names]
    node.update({key: names[node[key]] for key in short})
    return bool(short)


def _check_layer(path: Path, content: Layer) -> None:
    """Refuse what the parser would read in a way of its own, or not at all."""
    try:
        check_plain(content, max(path.stat().st_size, 10_000))  # a few anchors may repeat a list
    except ValueError as error:
        raise UserError(f"recipe {str(path)!r} cannot be taken: {error}; flatten it") from error
    try:
        json.dumps(content)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"recipe {str(path)!r} holds something else than texts, numbers, lists and mappings: "
            f"{error}"
        ) from error
    for name in _NOT_IN_RECIPES:
        if name in content:
            raise UserError(
                f"recipe {str(path)!r}: {name} is an option of the command line alone; "
                f"remove it and give --{name}"
            )
    for name in ("trainer", "checkpoint"):
        if not isinstance(content.get(name, {}), dict):
            raise UserError(
                f"recipe {str(path)!r}: {name} is {json.dumps(content[name])}; "
                "it has to hold options, or be left out"
            )
    for name in ("ckpt_path", "init_from"):
        if not isinstance(content.get(name, ""), str):
            value = repr(content[name])
            raise UserError(f"recipe {str(path)!r}: {name} is {value}; give a file's name")


def rerunnable(recipe: Layer) -> Layer:
    """Return a resolved configuration without what a recipe may not say."""
    for name in _NOT_IN_RECIPES:
        recipe.pop(name, None)
    for name in ("ckpt_path", "init_from"):
        if recipe.get(name) is None:
            recipe.pop(name, None)
    # A checkpoint's: what a recipe says of it, be it null, would come before that.
    data = recipe.get("data") or {}
    data.get("init_args", {}).pop("partition", None)
    return recipe


def class_paths() -> dict[str, str]:
    """Return where our classes are by their short names, which win over equal ones elsewhere."""
    return {
        name: f"{module.split('.')[0]}.{name}"
        for kind in ("nets", "tasks", "data")
        for name, module in exports(kind)
    }


def expand_flags(flags: list[str]) -> list[str]:
    """Return the flags with the short names of our classes written out."""
    names = class_paths()
    expanded: list[str] = []
    takes_class = False

    def written_out(value: str) -> str:
        node = read_word(value) if value.startswith("{") else None
        changed = [_write_out(inside, names) for _, inside in _mappings(node)]
        return json.dumps(node) if any(changed) else names.get(value, value)

    for flag in flags:
        name, equals, value = flag.partition("=")
        if takes_class:
            flag = written_out(flag)
        option = name.removesuffix(".help")
        is_class_option = name.startswith("--") and option.split(".")[-1].lstrip("-") in _CLASS_KEYS
        if is_class_option and equals:
            flag = f"{name}={written_out(value)}"
        takes_class = is_class_option and not equals
        expanded.append(flag)
    return expanded


def classes_first(flags: list[str]) -> list[str]:
    """Return the flags with those that name task, net, data and the like before all others.

    Their options would otherwise be looked for in the class that an earlier layer named.
    """
    groups: list[list[str]] = []
    for flag in flags:
        if flag.startswith("--") or not groups:
            groups.append([])
        groups[-1].append(flag)

    def place(group: list[str]) -> int:
        name, _, value = "=".join(group).partition("=")
        is_class = re.fullmatch(r"[A-Za-z_][\w.]*", value) and not os.path.isfile(value)
        return _NAME_CLASSES.get(name, 2) if is_class else 2

    return [flag for group in sorted(groups, key=place) for flag in group]


def refuse_deep(flags: list[str]) -> None:
    """Refuse a value with more lists and mappings within each other than any parser follows.

    Raises:
        OptionError: If a flag has one.
    """
    option = ""
    for flag in flags:
        name, equals, value = flag.partition("=")
        if flag.startswith("--"):
            option, flag = name.lstrip("-"), value if equals else ""
        depth = 0
        for bracket in re.findall(r"[\[{}\]]", flag):
            depth += 1 if bracket in "[{" else -1
            if depth > _DEEPEST:
                raise OptionError(option, " is nested too deeply; flatten its value")


def _mappings(node: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        yield place or "the recipe", node
        for key, value in node.items():
            yield from _mappings(value, f"{place}.{key}" if place else str(key))
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from _mappings(value, f"{place}[{number}]")


def value_of(key: str, layers: list[dict[str, Any]], flags: list[str]) -> Any:
    """Return what the layers and flags say last about a dotted key, before anything is parsed."""
    found = None
    for layer in layers:
        node: Any = layer
        for part in key.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        found = found if node is None else node
    short = key.replace(".init_args.", ".")
    for place, flag in enumerate(flags):
        name, equals, value = flag.partition("=")
        if name in (f"--{key}", f"--{short}"):
            found = value if equals else (flags[place + 1] if place + 1 < len(flags) else None)
    return found


def flag_values(flags: list[str]) -> Iterator[tuple[str, str | None]]:
    """Yield name and value of each flag; None where it stands alone."""
    for place, flag in enumerate(flags):
        name, equals, value = flag.partition("=")
        if not flag.startswith("--"):
            continue
        following = flags[place + 1] if place + 1 < len(flags) else "--"
        alone = not equals and following.startswith("--")
        whole = name.removeprefix("--").replace(".init_args", "")
        yield whole, None if alone else value if equals else following


def refuse_stray(flags: list[str]) -> None:
    """Refuse a word that is neither an option nor the one value of the option before it.

    Raises:
        OptionError: If there is one.
    """
    wants_value = False
    for flag in flags:
        if not flag.startswith("--") and not wants_value:
            raise OptionError("", f" names start with two dashes, unlike {flag!r}")
        wants_value = flag.startswith("--") and "=" not in flag


def read_word(word: str) -> Any:
    """Return what a word of the command line stands for: JSON or YAML, or else a text."""
    try:
        return json.loads(word)
    except ValueError:
        with suppress(UserError):
            return read_flag("", word)
    return word


def optimizer_resets(layers: list[dict[str, Any]], flags: list[str]) -> list[str | None]:
    """Return what has to stand before each layer, and the flags as the last, or None.

    A layer that chooses another optimiser than the one in force is preceded by a layer which takes
    back the numbers that earlier layers gave the other one.
    """
    reset = json.dumps({"model": {"init_args": dict.fromkeys(_OWNED_BY_THE_OPTIMIZER)}})
    current, inherited = _FIRST_OPTIMIZER, False
    before: list[str | None] = []
    for layer in [*layers, None]:
        given = [layer] if layer is not None else []
        chosen = value_of("model.init_args.optimizer", given, flags if layer is None else [])
        changed = chosen is not None and chosen != current and inherited
        current = chosen or current
        before.append(reset if changed else None)
        inherited = inherited or any(
            value_of(f"model.init_args.{key}", given, []) is not None
            for key in _OWNED_BY_THE_OPTIMIZER
        )
    return before


def refuse_facts(layers: list[dict[str, Any]], flags: list[str]) -> None:
    """Refuse where a recipe or a flag sets what the data decides.

    Raises:
        OptionError: If one does: the value would be ignored without a word otherwise.
    """
    for fact in FACTS:
        for owner in ("model", "model.init_args.net"):
            key = f"{owner}.init_args.{fact}"
            value = value_of(key, layers, flags)
            value = value_of(key.replace(".init_args.", "."), [], flags) if value is None else value
            if value is not None:
                with suppress(yaml.YAMLError):  # a flag's words, as the parser would read them
                    value = yaml.safe_load(value) if isinstance(value, str) else value
                option = key.replace(".init_args", "")
                raise refuse(option, value, "leave it out, as the data says what it is")


def checkpoint_layer(
    path: str, checkpoint: dict[str, Any], inputs: list[str], verb: str = "fit"
) -> Layer:
    """Return the model and data sections that a checkpoint file holds.

    With inputs to predict, the data section is what prepares single files the way the training
    data was prepared. A language model asks for its prompts where there are no inputs.

    Raises:
        UserError: If they are not as ``fit`` saves them.
    """
    try:
        layer = _sections(checkpoint, inputs, verb)
        json.dumps(layer)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise refuse(
            "ckpt_path",
            path,
            "give a file that holds model and data as `fit` saves them, for this at least "
            f"({type(error).__name__}: {error})",
        ) from error
    return layer


def _sections(checkpoint: dict[str, Any], inputs: list[str], verb: str) -> Layer:
    layer: Layer = {}
    hparams = dict(checkpoint.get("hyper_parameters") or {})
    class_path = hparams.pop("_class_path", None)
    hparams.pop("_instantiator", None)
    if class_path is not None:
        net = hparams.get("net")
        if isinstance(net, dict):
            given = net.get("init_args", {})
            kept = {key: value for key, value in given.items() if key not in FACTS}
            hparams["net"] = {**net, "init_args": kept}
        kept = {key: value for key, value in hparams.items() if key not in FACTS}
        layer["model"] = {"class_path": class_path, "init_args": kept}
    facts = checkpoint.get("zoo", {})
    asks = facts.get("inputs", {}).get("class_path") == "datamodules.PromptInputs"
    if inputs or (verb == "predict" and asks):
        spec = facts["inputs"]
        layer["data"] = {**spec, "init_args": {**spec["init_args"], "inputs": inputs}}
    elif "data" in facts:
        layer["data"] = {**facts["data"]}
    return layer
