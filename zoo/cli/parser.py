"""The parser of a recipe's layers and flags."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from jsonargparse import ActionConfigFile  # type: ignore[attr-defined]  # built at run time
from lightning.pytorch.cli import LightningArgumentParser

from zoo.cli.messages import explain, refuse_unknown
from zoo.errors import UserError


class ZooParser(LightningArgumentParser):
    """A parser whose errors are one sentence and which takes no abbreviations.

    Args:
        args: As for Lightning's parser.
        sources: What the layers of a configuration, as text, are called in a message.
        kwargs: As for Lightning's parser.
    """

    def __init__(self, *args: Any, sources: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)
        self.sources = sources or {}

    @property
    def option_names(self) -> list[str]:
        """The dotted names of all options."""
        return sorted(self.get_defaults(skip_validation=True).keys())

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise what the user is told.

        Raises:
            UserError: Always.
        """
        raise explain(message, ex, self.option_names) from ex

    def add_function_arguments(self, *args: Any, linked_targets: Any = None, **kwargs: Any) -> Any:
        """Add a function's parameters; without the links' targets, which only classes take."""
        return super().add_function_arguments(*args, **kwargs)


class LayerAction(ActionConfigFile):
    """Takes a layer of the configuration; a refusal names the file that the layer comes from."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: Any = None) -> None:
        """Read the layer.

        Raises:
            UserError: If an option is refused.
        """
        try:
            refuse_unknown(json.loads(values), parser.option_names)
            super().__call__(parser, cfg, values, option_string)  # type: ignore[no-untyped-call]
        except (TypeError, ValueError) as error:
            refusal = explain(str(error), error, parser.option_names)
            source = parser.sources.get(values, "the zoo's own defaults")
            raise UserError(f"{source}: {refusal}") from error
