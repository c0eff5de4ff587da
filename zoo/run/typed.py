"""What a file says, compared with the types of what it is handed to."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from datamodules.core.errors import shown


def check_arguments(target: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Compare arguments with the types that a class or function declares.

    Arguments that it does not declare are passed over: a call of it tells.

    Args:
        target: A class or function.
        given: Plain data by the arguments' names.

    Raises:
        TypeError: If one is of another type; its text says which.
    """
    init = target.__init__ if inspect.isclass(target) else target
    hints = get_type_hints(init)
    for name, value in given.items():
        if name in hints and not fits(value, hints[name]):
            text = shown(value)
            raise TypeError(f"{name} is {text if len(text) <= 60 else text[:57] + '...'}")


def fits(value: Any, hint: Any) -> bool:
    """Return whether plain data are of a type; true of a type that plain data do not have.

    >>> fits(3, float), fits(True, int), fits([1, "a"], list[int]), fits(None, int | None)
    (True, False, False, True)
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, each) for each in inner)
    if origin is Literal:
        return value in inner
    if hint is None or hint is type(None):
        return value is None
    if hint in (int, float):
        return isinstance(value, int if hint is int else int | float) and not isinstance(
            value, bool
        )
    if hint in (str, bool):
        return isinstance(value, hint)
    if origin is list:
        return isinstance(value, list | tuple) and all(fits(each, inner[0]) for each in value)
    if origin is dict:
        return isinstance(value, dict) and all(
            fits(key, inner[0]) and fits(each, inner[1]) for key, each in value.items()
        )
    return True
