"""Values of options that cannot be meant: told from source where that is enough, and in words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from datamodules.core.errors import OptionError, did_you_mean
from zoo.catalog.options import Option, as_yaml
from zoo.catalog.other_names import NOT_OFFERED, OTHER_NAMES
from zoo.cli.config import read_word

_NUMBERS = {"a whole number", "a number"}


def check_value(name: str, option: Option, value: Any, *, is_word: bool) -> None:
    """Check a value, as far as an option's choices and numbers tell; the parser tells the rest.

    Args:
        name: The option's dotted name.
        option: What is known of it.
        value: What it is given.
        is_word: Whether that is a word of the command line, which may stand for a number.

    Raises:
        OptionError: If it can be none of what the option takes.
    """
    kinds = set(option.kinds) - {"null"}
    if not option.takes or not kinds <= _NUMBERS or value in option.choices:
        return
    value = read_word(value) if is_word and isinstance(value, str) else value
    if value is None or as_yaml(value) in option.choices or _may_be_number(value, kinds):
        return
    values = [*option.choices, *(["null"] if "null" in option.kinds else [])]
    wanted = [kind for kind in option.kinds if kind != "null"]
    raise misfit(name, str(value), wanted, values)


def _may_be_number(value: Any, kinds: set[str]) -> bool:
    """Whether a value is a number of a kind, or one that the parser had better look at."""
    if not kinds:
        return False
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return False
        return True
    return isinstance(value, int) or (isinstance(value, float) and "a number" in kinds)


def misfit(name: str, value: str, wanted: Iterable[str], values: list[str]) -> OptionError:
    """Return the error to raise for a value that an option does not take.

    Args:
        name: The option's dotted name.
        value: What it was given, as Python writes it.
        wanted: What it takes, in words.
        values: The very values that it takes.
    """
    shown = shown_text(value)
    if name.rpartition(".")[2] == "optimizer" and value.lower() in NOT_OFFERED:
        return OptionError(name, f" is {shown}; {NOT_OFFERED[value.lower()]}")
    usual = OTHER_NAMES.get(value.lower())
    hint = did_you_mean(usual if usual in values else value, values)
    words = list(dict.fromkeys([*wanted, *values]))
    either = " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
    if value.startswith("NestedArg("):
        return OptionError(name, f" has no options of its own; give {either}")
    return OptionError(name, f" is {shown}; give {either}{hint}")


def shown_text(value: str) -> str:
    """Return a value, as Python writes it, as one writes it in YAML, texts in quotes."""
    yaml_words = {"True": "true", "False": "false", "None": "null"}
    is_number = re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?|\[.*\]|\{.*\}", value)
    return yaml_words.get(value) or (value if is_number else repr(value))
