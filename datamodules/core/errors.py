"""The one error that a user's data or options can cause."""

import difflib
import textwrap
from collections.abc import Sequence


class DataError(ValueError):
    """A fault that the user can mend: one sentence names the option or file and a way out."""


def nearest(name: str, names: Sequence[str]) -> str:
    """A hint at the name that is meant, or else at all names."""
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return "there are " + textwrap.shorten(", ".join(map(repr, names)), 200, placeholder=" ...")
