"""What a file of a few bytes must not become when it is read."""

from __future__ import annotations

from typing import Any

#: Lists and mappings within each other; ours are below 20.
_DEEPEST = 100


def check_plain(content: Any, most_values: int, most_bytes: int | None = None) -> None:
    """Refuse lists and tensors that a file can only hold by repeating what is in it.

    Args:
        content: What the file holds.
        most_values: How many values may be in it; a value takes a byte at least.
        most_bytes: How large a tensor may be.

    Raises:
        ValueError: If there are more values, or they lie deeper than any that we save.
    """
    values, rest = 0, [(content, 0)]
    while rest:
        node, depth = rest.pop()
        values += 1
        if depth > _DEEPEST:
            raise ValueError("it is nested too deeply")
        large = most_bytes and getattr(node, "nbytes", 0) > most_bytes
        if values > most_values or large:
            raise ValueError("it repeats what is in it too often")
        if isinstance(node, dict):
            rest += [(each, depth + 1) for pair in node.items() for each in pair]
        elif isinstance(node, list | tuple | set):
            rest += [(each, depth + 1) for each in node]
