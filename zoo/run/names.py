"""How runs are called: what was varied, when they began, and a few letters."""

from __future__ import annotations

import re

_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{6}$")


def run_id(folder: str) -> str:
    """Return the id at the end of a run folder's name, by which runs are in their order.

    >>> run_id("norm=group-20261125-101500-0a1b2c")
    '20261125-101500-0a1b2c'
    """
    found = _ID.search(folder)
    return found[0] if found else folder
