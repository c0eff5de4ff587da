"""What the nets that wrap a model of transformers share."""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # imported when a model is built: it takes seconds, and other nets need none
    from transformers import PreTrainedConfig, PreTrainedModel

# What a configuration may say that makes transformers fetch code or data.
_NOT_RECORDED = ("_name_or_path", "auto_map", "custom_pipelines", "quantization_config")


def check_installed(net: str, *packages: str) -> None:
    """Check that the packages that a net needs are there.

    Raises:
        ValueError: If one is not.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise ValueError(
                f"{net} needs {package}, which is not installed; run pip install {package}"
            )


@contextmanager
def errors_alone(*, bars: bool = True) -> Iterator[None]:
    """Keep transformers' table of loaded weights and its warnings to itself.

    Args:
        bars: Whether its progress bars, and those of downloads, still show.
    """
    from transformers.utils import logging as its_logging

    verbosity, had_bars = its_logging.get_verbosity(), its_logging.is_progress_bar_enabled()
    its_logging.set_verbosity(logging.ERROR)
    if not bars:
        its_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        its_logging.set_verbosity(verbosity)
        if had_bars and not bars:
            its_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def warn_of_missing(said: str, missing: list[str]) -> None:
    """Warn of weights that a file lacks."""
    if missing:
        warnings.warn(
            f"{said} has no weights for {', '.join(sorted(missing)[:3])}"
            f"{' and others' if len(missing) > 3 else ''}, which start at random",
            stacklevel=3,
        )


def head_names(model: PreTrainedModel) -> tuple[str, ...]:
    """Names, within a net that keeps it as ``model``, of what ends in logits."""
    base = model.base_model_prefix
    return tuple(f"model.{child}" for child, _ in model.named_children() if child != base)


def recompute_layers(model: PreTrainedModel) -> None:
    """Have layers computed anew on the way back (arXiv 1604.06174)."""
    enable = model.gradient_checkpointing_enable
    enable({"use_reentrant": False})  # type: ignore[no-untyped-call]


def write_architecture(model: PreTrainedModel) -> str:
    """Return a model's configuration as JSON, from which ``read_architecture`` makes it."""
    return json.dumps(plain(json.loads(model.config.to_json_string(use_diff=False))))


def read_architecture(architecture: str) -> PreTrainedConfig:
    """Return the configuration in that JSON.

    Raises:
        TypeError, ValueError, AttributeError, KeyError: If it is none.
    """
    from transformers import AutoConfig

    return AutoConfig.for_model(**plain(json.loads(architecture)))


def plain(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration without what could make transformers fetch code or data."""
    return {
        key: value
        for key, value in config.items()
        if key not in _NOT_RECORDED and "_implementation" not in key
    }
