"""Where data lives and how a batch of it is made.

Importing this package loads neither torch nor Lightning; a data set is imported when it is used
first.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datamodules.images import *  # noqa: F403
    from datamodules.language import *  # noqa: F403
    from datamodules.segmentation import *  # noqa: F403
    from datamodules.tables import *  # noqa: F403
    from datamodules.text import *  # noqa: F403


def __getattr__(name: str) -> Any:
    if name[0].isupper():  # a data set
        for home in ("images", "segmentation", "tables", "text", "language"):
            module = importlib.import_module(f"datamodules.{home}")
            if name in module.__all__:
                return getattr(module, name)
    raise AttributeError(f"module 'datamodules' has no attribute {name!r}")
