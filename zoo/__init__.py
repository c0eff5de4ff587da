"""A modular model zoo on Lightning: nets, tasks and the command line that trains them.

Importing this package loads neither torch nor Lightning; a name is imported when it is used first.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from zoo.version import __version__ as __version__

if TYPE_CHECKING:
    from zoo.model import Model as Model
    from zoo.model import load as load
    from zoo.nets import *  # noqa: F403
    from zoo.tasks import *  # noqa: F403


def __getattr__(name: str) -> Any:
    if name in ("Model", "load"):
        return getattr(importlib.import_module("zoo.model"), name)
    if name[0].isupper():  # a net or a task
        for home in ("zoo.nets", "zoo.tasks"):
            module = importlib.import_module(home)
            if name in module.__all__:
                return getattr(module, name)
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")
