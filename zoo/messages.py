"""Turns the parser's errors into one sentence that names the option and says what would do.

jsonargparse reports from the innermost parser outwards, each level quoting the one below it; what
the user needs is the innermost reason and the whole dotted name of the option.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable

from zoo.errors import UserError

_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "NoneType": "null",
}


def explain(message: str, options: Iterable[str], class_names: Iterable[str]) -> UserError:
    """One sentence for a parser's error.

    Args:
        message: What the parser says.
        options: The options that this parser accepts.
        class_names: The short class names that a user may mean.
    """
    text = re.sub(r"\s+", " ", message).strip()
    if text.startswith(_DONE):
        return UserError(text)
    keys = re.findall(r'Parser key "([^"]+)"', text)
    place = _dotted(keys)
    for pattern, sentence in _SENTENCES:
        found = re.search(pattern, text)
        if found:
            return UserError(sentence(found, place, list(options), list(class_names)))
    return UserError(text)


def nearest(name: str, names: Iterable[str]) -> str:
    """A hint with the nearest name, or nothing."""
    near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


_DONE = "option "

_Sentence = Callable[[re.Match[str], str, list[str], list[str]], str]


def _dotted(keys: list[str]) -> str:
    """The keys of all levels as one dotted name; the levels quote each other, so keys recur."""
    parts: list[str] = []
    for key in keys:
        if key not in parts:
            parts.append(key)
    return ".".join(parts).replace(".init_args", "")


def _quoted(found: re.Match[str], place: str, options: list[str], names: list[str]) -> str:
    outer = place.removesuffix(f".{found['name']}")
    return f"option {outer}.{found['name']} {found['rest']}"


def _needs_value(found: re.Match[str], place: str, options: list[str], names: list[str]) -> str:
    return f"option {found['name']} needs a value"


def _unknown(found: re.Match[str], place: str, options: list[str], names: list[str]) -> str:
    option = found["name"]
    hint = found.groupdict().get("hint") or nearest(option, options)
    whole = f"{place}.{option}" if place else option
    return f"option {whole} is not known{hint}"


def _unrecognised(found: re.Match[str], place: str, options: list[str], names: list[str]) -> str:
    option = found["name"].lstrip("-").partition("=")[0]
    if not found["name"].startswith("-"):
        return f"option expected, but found {option!r}; options start with --"
    return f"option --{option} is not known{nearest(option, options)}"


def _choice(found: re.Match[str], place: str, options: list[str], names: list[str]) -> str:
    choices = re.findall(r"'([^']*)'|\b(\d+)\b", found["choices"])
    words = [word or number for word, number in choices]
    hint = nearest(found["value"], words)
    return f"option {place} is {found['value']!r}; choose one of {', '.join(words)}{hint}"


def _type(found: re.Match[str], place: str, options: list[str], names: list[str]) -> str:
    wanted = [_TYPES.get(name.rsplit(".", 1)[-1], name) for name in _class_names(found["types"])]
    return f"option {place} is {found['value']!r}; give {' or '.join(wanted)}"


def _class_names(text: str) -> list[str]:
    literal = re.findall(r"Literal\[([^]]*)\]", text)
    words = [f"one of {item}" for item in literal]
    return words + re.findall(r"<class '([^']+)'>", text)


def _unknown_class(found: re.Match[str], place: str, options: list[str], names: list[str]) -> str:
    name = found["name"]
    hint = nearest(name.rsplit(".", 1)[-1], names)
    return f"option {place} names the class {name!r}, which there is not{hint}"


def _not_trusted(found: re.Match[str], place: str, options: list[str], names: list[str]) -> str:
    name = found["name"]
    package = name.split(".")[0]
    return (
        f"option {place} names {name!r}, which is not among the packages that a recipe may use; "
        f"if you trust it, add --trust {package}"
    )


def _wrong_class(found: re.Match[str], place: str, options: list[str], names: list[str]) -> str:
    return f"option {place} cannot take {found['name']!r}: {found['why']}"


def _no_subclass(found: re.Match[str], place: str, options: list[str], names: list[str]) -> str:
    return f"option {place} names {found['name']!r}, which is no {found['base']}"


def _missing(found: re.Match[str], place: str, options: list[str], names: list[str]) -> str:
    name = ".".join(filter(None, [place, found["name"]])).replace(".init_args", "")
    return f"option {name} is missing; set it in the recipe or as --{name}"


_SENTENCES: list[tuple[str, _Sentence]] = [
    (
        r"[:-] option (?P<name>[\w.]+) (?P<rest>(?:is|names|cannot|needs) .+?)"
        r"(?= - Expected a| Given value|$)",
        _quoted,
    ),
    (r"argument (?P<name>\S+): expected", _needs_value),
    (
        r"[Ii]mport path (?P<name>\S+) does not correspond to a subclass of (?P<base>\w+)",
        _no_subclass,
    ),
    (r"Importing '(?P<name>[^']+)' is not allowed", _not_trusted),
    (r"unrecognized arguments: (?P<name>\S+)", _unrecognised),
    (r"Option '(?P<name>[^']+)' is not accepted(?P<hint>; did you mean '[^']+'\?)?", _unknown),
    (r"does not accept option '(?P<name>[^']+)'(?P<hint>; did you mean '[^']+'\?)?", _unknown),
    (r'(?:Key|Option) ["\'](?P<name>[^"\']+)["\'] is required', _missing),
    (r"option (?P<name>[\w.]+) is missing", _missing),
    (
        r"Expected a typing.Literal\[(?P<choices>[^]]*)\]\. Got value: (?P<value>.+?)(?: - |$)",
        _choice,
    ),
    (r"Expected a dot import path string: (?P<name>\S+)", _unknown_class),
    (
        r"Problem with given class_path '(?P<name>[^']+)': "
        r"(?:No module|module|cannot import|.* has no attribute)",
        _unknown_class,
    ),
    (
        r"Problem with given class_path '(?P<name>[^']+)': (?P<why>.+?)(?: - Expected|$)",
        _wrong_class,
    ),
    (r"Expected a (?P<types><class '[^']+'>)\. Got value: (?P<value>.+?)(?: - |$)", _type),
    (
        r"Subtypes: \[(?P<types>(?:(?!Subtypes: \[).)*?)\] Errors: (?:(?!Subtypes: \[).)*?"
        r"Given value: (?P<value>(?!NestedArg)(?:(?! - ).)+)",
        _type,
    ),
]
