"""The parser, and whose classes a recipe may name."""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

import jsonargparse
from lightning.pytorch.cli import LightningArgumentParser

from zoo.cli.messages import explain

#: The packages whose classes a recipe may name; refused before anything of another is imported.
TRUSTED = (
    "zoo",
    "datamodules",
    "torch.nn",
    "torch.optim",
    "torchvision.models",
    "timm",
    "transformers",
    "peft",
    "lightning.pytorch.callbacks",
    "lightning.pytorch.loggers",
    "lightning.pytorch.strategies",
    "lightning.pytorch.plugins",
    "lightning.pytorch.profilers",
)


class ZooParser(LightningArgumentParser):
    """A parser whose errors are one sentence and which takes no abbreviations."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise what the user is told.

        Raises:
            UserError: Always.
        """
        verbs = self._subcommands_action
        parsers = [self, *(verbs.choices.values() if verbs else [])]
        options = [name.lstrip("-") for each in parsers for name in each._option_string_actions]
        raise explain(message, ex, options) from ex

    def add_function_arguments(self, *args: Any, linked_targets: Any = None, **kwargs: Any) -> Any:
        """Add a function's parameters; without the links' targets, which only classes take."""
        return super().add_function_arguments(*args, **kwargs)


def trust(packages: list[str]) -> None:
    """Set whose classes a recipe may name; all others are refused before their import."""
    jsonargparse.set_parsing_settings(
        import_path_denylist=["*"],
        import_path_allowlist=[*TRUSTED, *packages],
        instantiate_subclass_spec_in_any=False,
    )
    sys.path += [] if not packages or os.getcwd() in sys.path else [os.getcwd()]
