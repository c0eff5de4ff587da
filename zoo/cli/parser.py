"""The parser of a recipe's layers and flags."""

from __future__ import annotations

import json
from abc import ABCMeta
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import jsonargparse
import yaml
from jsonargparse import ActionConfigFile  # type: ignore[attr-defined]  # built at run time
from lightning.pytorch import LightningDataModule
from lightning.pytorch.cli import LightningArgumentParser

from datamodules.core.arrays import ArrayData
from zoo.cli.config import dump_yaml, rerunnable
from zoo.cli.messages import explain, refuse_unknown
from zoo.errors import UserError

#: The texts of the layers that are being parsed.
_texts: set[str] = set()
_read_yaml = jsonargparse.get_loader("yaml")


def _read_value(text: str) -> Any:
    """Return what a text stands for; what a layer has as a text stands for itself.

    A word of the command line is JSON or YAML. YAML would read another text than was saved: it
    takes JSON's way of writing an emoji for two characters, and to it ``&a`` and ``# a`` mean
    something.
    """
    if text in _texts:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return _read_yaml(text)


def _texts_in(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict | list):
        for each in node.values() if isinstance(node, dict) else node:
            yield from _texts_in(each)


# jsonargparse writes a class's arguments and reads them again as it goes: as JSON, too.
jsonargparse.set_loader("zoo", _read_value, (yaml.YAMLError,))
jsonargparse.set_dumper("zoo", json.dumps)
jsonargparse.set_dumper("yaml", dump_yaml)  # of --print_config, which can be run again


class _Kinds(ABCMeta):
    """Names the bases of all data, among whose subclasses jsonargparse looks for a name."""

    def __subclasses__(cls) -> list[type]:
        return [LightningDataModule, ArrayData]


class Data(metaclass=_Kinds):
    """A data module, or inputs to predict."""


Data.register(LightningDataModule)
Data.register(ArrayData)


class ZooParser(LightningArgumentParser):
    """A parser whose errors are one sentence and which takes no abbreviations.

    Args:
        args: As for Lightning's parser.
        sources: What the layers of a configuration, as text, are called in a message.
        kwargs: As for Lightning's parser.
    """

    def __init__(self, *args: Any, sources: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **{"parser_mode": "zoo", **kwargs})
        self.sources = sources or {}

    @property
    def option_names(self) -> list[str]:
        """The dotted names of all options."""
        return sorted(self.get_defaults(skip_validation=True).keys())

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        """Parse a command line; the layers of an earlier one are forgotten."""
        _texts.clear()
        return super().parse_args(*args, **kwargs)

    def validate(self, namespace: Any, *args: Any, **kwargs: Any) -> None:
        """Check the values; null too, which jsonargparse takes for any option of a class.

        Raises:
            TypeError: If one has another type.
        """
        super().validate(namespace, *args, **kwargs)
        for action in self._actions:
            name = action.dest
            is_typed = hasattr(action, "_typehint") and action.default is not None
            if is_typed and name in namespace and namespace[name] is None:
                self._check_value_key(action, None, name, namespace)

    def dump(self, *args: Any, format: str = "parser_mode", **kwargs: Any) -> str:
        """Return a configuration as text; ``--print_config`` asks for no format and gets YAML."""
        if format == "parser_mode" and hasattr(self, "print_config"):
            return dump_yaml(rerunnable(json.loads(super().dump(*args, format="json", **kwargs))))
        text: str = super().dump(*args, format=format, **kwargs)
        return text

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise what the user is told.

        Raises:
            UserError: Always.
        """
        raise explain(message, ex, self.option_names) from ex

    def add_lightning_class_args(
        self,
        lightning_class: Any,
        nested_key: str,
        subclass_mode: bool = False,
        required: bool = True,
    ) -> list[str]:
        """Add a class's arguments as Lightning does; data may be plain inputs to predict, too."""
        if lightning_class is LightningDataModule and subclass_mode:
            added: list[str] = self.add_subclass_arguments(
                Data, nested_key, fail_untyped=False, required=required
            )
            return added
        return super().add_lightning_class_args(
            lightning_class, nested_key, subclass_mode, required
        )

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
            layer = json.loads(values)
            refuse_unknown(layer, parser.option_names)
            _texts.update(_texts_in(layer))
            super().__call__(parser, cfg, values, option_string)  # type: ignore[no-untyped-call]
        except (TypeError, ValueError) as error:
            refusal = explain(str(error), error, parser.option_names)
            source = parser.sources.get(values, "the zoo's own defaults")
            raise UserError(f"{source}: {refusal}") from error
