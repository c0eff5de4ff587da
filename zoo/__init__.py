"""A modular model zoo on Lightning: nets, tasks and the command line that trains them.

Importing this package loads neither torch nor Lightning; a name is imported when it is used first.
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.nets import GoogLeNet
    from zoo.tasks import ImageClassifier

try:
    __version__ = version("lightning-zoo")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+source"

_HOMES = {"GoogLeNet": "zoo.nets", "ImageClassifier": "zoo.tasks"}

__all__ = ["GoogLeNet", "ImageClassifier", "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")
