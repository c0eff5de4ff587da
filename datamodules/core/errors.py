"""The errors that a user can put right, in one grammar, and the checks that raise them.

``option batch_size is 0; give 1 or more``: which option, its value as YAML has it, what would do.
The command line puts the section before the name: ``option data.batch_size``.
"""

from __future__ import annotations

import difflib
import json
import math
import textwrap
from collections.abc import Collection, Iterable
from typing import TypeVar

Number = TypeVar("Number", int, float)


class UserError(ValueError):
    """Something that the user can put right; the sentence names the option or file and a remedy.

    The command line prints it on stderr without a traceback and exits with 2.
    """


class DataError(UserError):
    """A fault of files or of what they hold."""


class OptionError(UserError):
    """An option that cannot be taken.

    Args:
        key: The option's dotted name, as far as it is known.
        reason: The rest of the sentence, from the space or colon after the name on.
        near: The option that may have been meant.
    """

    def __init__(self, key: str, reason: str, near: str | None = None) -> None:
        self.key, self.reason, self.near = key, reason, near
        hint = f"; did you mean {near}?" if near else ""
        super().__init__(f"option {key}".strip() + reason + hint)

    def inside(self, place: str) -> OptionError:
        """Return the same, seen from the parser whose option ``place`` it belongs to."""
        outer = [part for part in place.replace("init_args", "").split(".") if part]

        def whole(name: str) -> str:
            return ".".join(filter(None, [*outer, name.lstrip("-.") if outer else name]))

        near = whole(self.near) if self.near else None
        return OptionError(whole(self.key), self.reason, near)


def refuse(option: str, value: object, remedy: str) -> OptionError:
    """Return the error to raise for an option's value: ``option NAME is VALUE; REMEDY``.

    Args:
        option: The argument's name, without a section.
        value: What it was given.
        remedy: What would do, such as ``give 1 or more``.

    >>> str(refuse("batch_size", 0, "give 1 or more"))
    'option batch_size is 0; give 1 or more'
    >>> str(refuse("norm", "grop", "give one of batch, group" + did_you_mean("grop", ["group"])))
    "option norm is 'grop'; give one of batch, group (did you mean 'group'?)"
    """
    return OptionError(option, f" is {shown(value)}; {remedy}")


def blamed(option: str, error: Exception) -> UserError:
    """Return the error to raise where an option's value led to another error.

    Args:
        option: The option's whole name, its section included.
        error: What was raised; an option that it names itself is not named again.

    >>> str(blamed("model.vectors", refuse("vectors", "a.vec", "give a file")))
    "option model.vectors is 'a.vec'; give a file"
    >>> str(blamed("model.vectors", ValueError("it is empty")))
    'option model.vectors: it is empty'
    """
    if not isinstance(error, OptionError):
        return UserError(f"option {option}: {error}")
    section, _, name = option.rpartition(".")
    return error.inside(section) if error.key == name else error


def shown(value: object) -> str:
    """Return a value as one writes it in YAML, texts in quotes."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return repr(str(value)) if hasattr(value, "__fspath__") else repr(value)


def many(number: int, thing: str) -> str:
    """Return how many of something there are, in words.

    >>> many(1, "row"), many(2000, "row")
    ('1 row', '2,000 rows')
    """
    return f"{number:,} {thing}{'s' * (number != 1)}"


def nearest(name: str, names: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the name that is spelt nearly like it, in capitals or not.

    Args:
        name: What was given.
        names: Those there are.
        cutoff: How nearly, up to 1.

    >>> nearest("cifar10", ["Digits", "CIFAR10"])
    'CIFAR10'
    """
    known = {each.lower(): each for each in names}
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=cutoff)
    return known[near[0]] if near else None


def did_you_mean(name: object, names: Iterable[str]) -> str:
    """Return a hint at the name that is meant, to be put behind a sentence.

    Nothing where none is near.
    """
    near = nearest(name, names) if isinstance(name, str) else None
    return f" (did you mean {near!r}?)" if near else ""


def listed(names: Collection[object], most: int = 10) -> str:
    """Return the names, in quotes; of more than so many, how many more there are.

    >>> listed(["cat", "dog", "emu"], 2)
    "'cat', 'dog' and 1 more"
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) for name in [*names][:most]) + more


def known(name: str, names: Iterable[str]) -> str:
    """Return the remedy where a name is not known: the one that is near, or else all there are."""
    all_names = list(names)
    near = nearest(name, all_names)
    if near is not None:
        return f"did you mean {near!r}?"
    return "there are " + textwrap.shorten(", ".join(map(repr, all_names)), 200, placeholder=" ...")


def at_least(option: str, value: Number, lowest: Number) -> Number:
    """Return the value, unless it is too low.

    Raises:
        OptionError: If it is below ``lowest``, or no finite number.
    """
    if not lowest <= value < math.inf:
        raise refuse(option, value, f"give {lowest} or more")
    return value


def between(
    option: str, value: float, low: float = 0, high: float = 1, *, inclusive: bool = True
) -> float:
    """Return the value, if it lies from ``low`` to ``high``; ``high`` itself only where inclusive.

    Raises:
        OptionError: If it lies outside.
    """
    if not (low <= value < high or (inclusive and value == high)):
        below = "" if inclusive else " below"
        raise refuse(option, value, f"give a number from {low} to{below} {high}")
    return value


def above(option: str, value: float, low: float = 0) -> float:
    """Return the value, if it is a finite number above ``low``.

    Raises:
        OptionError: If it is not.
    """
    if not low < value < math.inf:
        raise refuse(option, value, f"give a number above {low}")
    return value


def refuse_unused(option: str, value: object, default: object, chosen: str, *users: str) -> None:
    """Refuse an option that what was chosen has no use for, unless it is as it was.

    Raises:
        OptionError: If it was set; names what would use it.

    >>> refuse_unused("focal_gamma", 3.0, 2.0, "focal", "focal")
    >>> refuse_unused("focal_gamma", 2.0, 2.0, "cross_entropy", "focal")
    """
    if chosen not in users and value != default:
        remedy = f"leave it out, as it is for {' and '.join(users)} and has no effect on {chosen}"
        raise refuse(option, value, remedy)


def one_of(option: str, value: object, choices: Collection[object]) -> None:
    """Check a value of a fixed set.

    Raises:
        OptionError: If it is none of them; names the nearest one.
    """
    if value not in choices:
        names = [str(choice) for choice in choices]
        raise refuse(option, value, f"give one of {', '.join(names)}{did_you_mean(value, names)}")
