"""Names of a package that are imported when they are used first.

What prepares single inputs for a net needs torch alone, and stands in a package beside data modules
that need Lightning, which takes longer to import than torch.
"""

import importlib
from collections.abc import Mapping
from typing import Any


def attribute(package: str, homes: Mapping[str, str], name: str) -> Any:
    """Return a name of a package from the module that defines it.

    Args:
        package: The package's dotted name.
        homes: In which of its modules each of its names is.
        name: The name.

    Raises:
        AttributeError: If it is none of them.
    """
    if name not in homes:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
