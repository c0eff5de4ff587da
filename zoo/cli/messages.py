"""Turns the parser's errors into one sentence that names the option and says what would do.

jsonargparse parses a class's arguments by a parser of their own, so that an error passes through
several parsers, each of which quotes the one below. The innermost is put into words here; each
further level adds its part of the option's dotted name.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from jsonargparse import Namespace

from datamodules.core.errors import nearest, shown
from zoo.catalog.facts import FACTS
from zoo.cli.values import misfit, shown_text
from zoo.errors import OptionError, UserError
from zoo.run.trust import why_refused

_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "list": "a list",
    "dict": "a mapping",
    "list[int]": "a list of whole numbers ([1, 2])",
    "list[float]": "a list of numbers ([1, 2.5])",
    "list[str]": "a list of texts ([a, b])",
    "LightningModule": "a task (see `zoo list tasks`)",
    "Data": "a data set (see `zoo list data`)",
    "Module": "a net (see `zoo list nets`)",
    "Callable": "the name of a module's class",
}
#: Options that a recipe cannot set.
_NOT_SHOWN = {"config", "trust", "inputs", "quiet", "weights"}
_VALUES = {"bool": ["true", "false"], "NoneType": ["null"]}
_PACKAGES = {"callbacks": "callbacks", "logger": "loggers", "profiler": "profilers"}


#: The class that stands for one that is not named, where only its options are.
_PLACES = {
    "lightning.LightningModule": _TYPES["LightningModule"],
    "zoo.cli.parser.Data": _TYPES["Data"],
}
_PLACES["lightning.Callback"] = "a callback's class before its options"


def explain(message: str, error: BaseException | None, options: Iterable[str]) -> UserError:
    """Return one sentence for a parser's error.

    Args:
        message: What the parser says.
        error: Why it says so.
        options: The options that this parser accepts.
    """
    text = " ".join(message.split())
    key = re.match(r'Parser key "(?!config")([^"]+)"|--(\S+)\.help: ', text)
    place = key[1] or key[2] if key else ""
    inner = next((each for each in _chain(error) if isinstance(each, UserError)), None)
    if inner is not None:
        return inner.inside(place) if isinstance(inner, OptionError) else inner
    for pattern, sentence in _SENTENCES:
        found = re.search(pattern, text)
        if found:
            return sentence(found, place, list(options)).inside(place)
    reason = sentence_of(root_of(error)) if error is not None else text
    return OptionError("", f": {reason[:300]}").inside(place) if place else UserError(reason)


def sentence_of(error: BaseException) -> str:
    """Return an exception's text in one line, or its name."""
    return " ".join(str(error).split()) or type(error).__name__


def root_of(error: BaseException) -> BaseException:
    """Return what an exception was raised from in the first place."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def refusal(error: BaseException, config: Namespace) -> UserError:
    """Return what the user is told where a class refuses its arguments.

    A class does not know in which section of a recipe its arguments stand; it is added here to the
    option that the sentence names.

    Args:
        error: What was raised, jsonargparse's wrapping included.
        config: The parsed configuration.
    """
    causes = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    ours = next((cause for cause in causes if isinstance(cause, UserError)), None)
    if isinstance(ours, OptionError):
        section = None if "." in ours.key else _section_of(ours.key, config)
        whole = ours if section is None else ours.inside(section)
        return OptionError(whole.key, _with_sections(whole.reason, config), whole.near)
    sentence = sentence_of(ours or causes[-1])
    word = re.match(r"[a-z]\w*(?=[\s:=])", sentence)
    section = word and _section_of(word[0], config)
    if section:
        return UserError(f"{section}.{sentence}")
    if ours is not None:
        return UserError(_with_sections(sentence, config))
    # Lightning names its arguments anywhere in a sentence, the one it is about first.
    trainer = vars(config.get("trainer") or Namespace())  # type: ignore[no-untyped-call]
    words = re.findall(r"\w+", sentence)
    for section, arguments in [*_specs(trainer), ("trainer", trainer)]:
        values = {name: value for name, value in arguments.items() if value is not None}
        within = {
            key: name for name, each in values.items() if isinstance(each, dict) for key in each
        }
        given = [within.get(word, word) for word in words if word in values or word in within]
        if given:
            value = shown(values[given[0]])
            return UserError(f"option {section}.{given[0]} is {value}: {sentence}")
    return UserError(sentence)


def is_lightnings(error: BaseException) -> bool:
    """Whether Lightning itself raised: it refuses some options where it first uses them."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    name = frame.tb_frame.f_globals.get("__name__", "") if frame is not None else ""
    return str(name).startswith("lightning.pytorch.")


def _specs(trainer: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the options of the Trainer's parts, with the section that they stand in."""
    for name in ("callbacks", "logger", "profiler", "strategy", "plugins"):
        value = trainer.get(name)
        for spec in value if isinstance(value, list) else [value]:
            if isinstance(spec, Namespace):
                yield f"trainer.{name}", vars(spec.get("init_args") or Namespace())  # type: ignore[no-untyped-call]


def _with_sections(sentence: str, config: Namespace) -> str:
    """Return a sentence in which options have their sections: those of two words, out of quotes."""

    def whole(found: re.Match[str]) -> str:
        section = None if found[0] in FACTS else _section_of(found[0], config)
        return f"{section}.{found[0]}" if section else found[0]

    name = re.compile(r"(?<![\w.-])[a-z]+(_[a-z]+)+(?![\w.])")
    parts = re.split(r"('[^']*')", sentence)
    return "".join(part if part.startswith("'") else name.sub(whole, part) for part in parts)


def _section_of(option: str, config: Namespace) -> str | None:
    """Return the section, such as ``model.net``, whose class takes an option of that name."""
    for section in ("data", "model", "model.init_args.net", "checkpoint"):
        given = config.get(f"{section}.init_args") or config.get(section) or {}
        if option in given:
            return section.replace(".init_args", "")
    return None


def nearest_option(name: str, options: Iterable[str]) -> str | None:
    """Return the option that is meant: one that starts like it, is spelt nearly like it or ends so.

    ``trainer.max_epochs`` for ``max_epochs``.
    """
    known = list(options)
    longer = [each for each in known if len(name) > 2 and each.startswith(name)]
    if longer:
        return longer[0]
    # Of names in one section, what they share would make any two look alike.
    section, _, last = name.rpartition(".")
    beside = {each.rpartition(".")[2]: each for each in known if each.rpartition(".")[0] == section}
    near = beside.get(nearest(last, beside, 0.72) or "") if beside else nearest(name, known, 0.72)
    return near or next((each for each in known if each.split(".")[-1] == name), None)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


_Sentence = Callable[[re.Match[str], str, list[str]], OptionError]


def _needs_value(found: re.Match[str], place: str, options: list[str]) -> OptionError:
    return OptionError(f"--{found['name']}", " needs a value")


def refuse_unknown(layer: Mapping[str, Any], options: list[str], section: str = "") -> None:
    """Check the names of a layer, down to those of classes' own arguments.

    Raises:
        OptionError: If there is no such option.
    """
    for key, value in layer.items():
        name = f"{section}{key}"
        inner = any(option.startswith(f"{name}.") for option in options)
        if isinstance(value, dict) and (inner or name not in options):
            refuse_unknown(value, options, f"{name}.")
        elif not inner and name.rstrip("+") not in options:
            raise _unknown_name(name, options)


def _unknown(found: re.Match[str], place: str, options: list[str]) -> OptionError:
    if found["name"] == "class_path":
        return OptionError("", " has arguments beside class_path; they belong under init_args")
    return _unknown_name(found["name"], options)


def _unknown_name(name: str, options: list[str]) -> OptionError:
    near = nearest_option(name, options)
    known = ", ".join(sorted({name.split(".")[0] for name in options} - _NOT_SHOWN))
    there = (
        f"there are {textwrap.shorten(known, 250, placeholder=' ...')}" if known else "it has none"
    )
    among = "" if near else f"; {there}"
    return OptionError(name, f" is not known{among}", near)


def _unrecognised(found: re.Match[str], place: str, options: list[str]) -> OptionError:
    name = found["name"].lstrip("-").partition("=")[0]
    if not found["name"].startswith("--") or not name:
        return OptionError("", f" names start with two dashes, unlike {found['name']!r}")
    if name.startswith("."):
        return OptionError("", " has an option without a name; give one")
    near = nearest_option(name, options)
    if near is not None:
        return OptionError(f"--{name}", " is not known", f"--{near}")
    return OptionError(
        f"--{name}",
        " is not known; options of the task start with --model., of its net with --model.net., "
        "of the data with --data., of Lightning's Trainer with --trainer.",
    )


def _type(found: re.Match[str], place: str, options: list[str]) -> OptionError:
    value, wanted, values = found["value"], [], []
    for item in _split(found["types"]):
        name = re.sub(r"<class '([^']+)'>", r"\1", item)
        if "Literal[" in name:
            values += [text or number for text, number in re.findall(r"'([^']*)'|(\d+)", name)]
        elif name in _VALUES:
            values += _VALUES[name]
        elif name.startswith("list[") and name not in _TYPES:
            continue  # of classes, each of which may also stand alone
        else:
            short = name.rsplit(".", 1)[-1]
            wanted.append(_TYPES.get(name) or _TYPES.get(short) or f"a {short.rstrip(']')}")
    return OptionError("", misfit(place, value, wanted, values).reason)


def _split(types: str) -> list[str]:
    """Return the items of a list of types, some of which hold lists themselves."""
    items, depth = [""], 0
    for letter in types:
        depth += (letter == "[") - (letter == "]")
        if letter == "," and depth == 0:
            items.append("")
        else:
            items[-1] += letter
    return [item.strip() for item in items]


def _unknown_class(found: re.Match[str], place: str, options: list[str]) -> OptionError:
    module, _, name = found["name"].rpartition(".")
    last = place.split(".")[-1]
    if module:  # only what is imported already
        names = [each for each in dir(sys.modules.get(module)) if not each.startswith("_")]
    else:
        package = sys.modules.get(f"lightning.pytorch.{_PACKAGES.get(last)}")
        names = dir(package) if package else []
    near = nearest(name, names)
    whole = ".".join(filter(None, [module, near]))
    hint = f"; did you mean {whole!r}?" if near else "; give the whole path, package.module.Class"
    reason = f": there is no class {found['name']!r}{hint}"
    return OptionError("", reason)


def _not_allowed(found: re.Match[str], place: str, options: list[str]) -> OptionError:
    name = found["name"]
    if name in _PLACES:
        return OptionError("", f" is missing; give {_PLACES[name]}")
    return OptionError(found["option"] or "", f" names {name!r}, {why_refused(name)}")


def _no_subclass(found: re.Match[str], place: str, options: list[str]) -> OptionError:
    wanted = _TYPES.get(found["base"], f"a {found['base']}")
    reason = f" is {found['name']!r}, which is not {wanted}"
    return OptionError("", reason)


def _wrong_class(found: re.Match[str], place: str, options: list[str]) -> OptionError:
    reason = f" cannot take {found['name']!r}: {found['why']}"
    return OptionError("", reason)


def _missing(found: re.Match[str], place: str, options: list[str]) -> OptionError:
    return OptionError(found["name"], " is missing; set it in a recipe or on the command line")


def _no_mapping(found: re.Match[str], place: str, options: list[str]) -> OptionError:
    return OptionError(
        "", f" is {shown_text(found['value'])}; set its options one by one, --{place}.NAME VALUE"
    )


def _print_option(found: re.Match[str], place: str, options: list[str]) -> OptionError:
    return OptionError(f"--{found['name']}", f" is {found['value']!r}; give it without a value")


def _empty(found: re.Match[str], place: str, options: list[str]) -> OptionError:
    return OptionError("", " is ''; give a class")


def _no_class(found: re.Match[str], place: str, options: list[str]) -> OptionError:
    return OptionError("", f" is missing; give the class of the {place.split('.')[-1]}")


_SENTENCES: list[tuple[str, _Sentence]] = [
    (r"^Invalid option \"(?P<value>[^\"]*)\" for --(?P<name>print_config)", _print_option),
    (r"Empty nested key", lambda *_: OptionError("", " has an option without a name; give one")),
    (
        r"Not a valid subclass of (?P<base>\w+)\. Got value: (?P<value>.*?) Subclass types",
        lambda found, *_: OptionError(
            "", f" is {found['value']}; give {_TYPES.get(found['base'], 'a ' + found['base'])}"
        ),
    ),
    (r"(?:import path string|import path format|class_path):\s*(?:-.*)?$", _empty),
    (r"Expected an instantiatable class, but \S+ is abstract", _no_class),
    (r"^argument --(?P<name>\S+): expected", _needs_value),
    (r"^unrecognized arguments: (?P<name>\S+)", _unrecognised),
    (r"(?:--(?P<option>[\w.]+): )?Importing '(?P<name>[^']+)' is not allowed", _not_allowed),
    (
        r"[Ii]mport path (?P<name>\S+) does not correspond to a subclass of (?P<base>\w+)",
        _no_subclass,
    ),
    (
        r"[Ii]mport path does not correspond to a subclass of (?P<base>\w+)"
        r".* Given value: (?P<name>\S+)",
        _no_subclass,
    ),
    (r"(?:does not accept o|O)ption '(?P<name>[^']+)'", _unknown),
    (r"(?:Key|Option) [\"'](?P<name>[^\"']+)[\"'] is required", _missing),
    (r"arguments are required: (?P<name>[\w.]+)", _missing),
    (r"Unable to load config '(?P<value>[^']*)'", _no_mapping),
    (r"Expected a dot import path string: (?P<name>\S+)", _unknown_class),
    (r"Unexpected import path format: (?P<name>.+?)(?: - |$)", _unknown_class),
    (
        r"Problem with given class_path '(?P<name>[^']+)': "
        r"(?:No module|module|cannot import|.* has no attribute)",
        _unknown_class,
    ),
    (
        r"Problem with given class_path '(?P<name>[^']+)': (?P<why>.+?)(?: - Expected|$)",
        _wrong_class,
    ),
    (
        r"Expected a (?P<types>typing.Literal\[[^]]*\]|<class '[^']+'>)\. "
        r"Got value: ?(?P<value>.*?)(?: - |$)",
        _type,
    ),
    (
        r"Subtypes: \[(?P<types>(?:(?!Subtypes: \[).)*?)\] Errors: (?:(?!Subtypes: \[).)*?"
        r"Given value: ?(?P<value>(?!NestedArg)(?:(?! - ).)*)",
        _type,
    ),
]
