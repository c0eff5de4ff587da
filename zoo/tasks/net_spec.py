"""What a task finds out about a net: its last layers, its classes, how it was made."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

from jsonargparse import ArgumentParser, add_instantiator
from torch import nn

from datamodules.core.errors import OptionError
from datamodules.core.options import public_path
from zoo.nets.pretrained.builders import build_timm, build_torchvision
from zoo.nets.protocols import Classifies, HasHead, RecordsArguments, RecordsBuilder
from zoo.run.trust import builders


def known_classes(num_classes: int | None, net: nn.Module) -> int:
    """Return how many classes there are, by the option or else by the net's attribute of that name.

    Raises:
        OptionError: If neither says so.
    """
    classes = num_classes or (net.num_classes if isinstance(net, Classifies) else None)
    if not isinstance(classes, int):
        raise OptionError("num_classes", " is not known; pass num_classes=")
    return classes


#: What the last layer is called in nets that do not say so themselves.
HEAD_NAMES = ("fc", "classifier", "head", "heads", "score")


def head_parameters(net: nn.Module) -> set[str]:
    """Return the names of the parameters of a net's last layers.

    A net of the zoo lists these layers in ``head_names``; in others they are known by their name.
    """
    names = net.head_names if isinstance(net, HasHead) else HEAD_NAMES
    prefixes = tuple(f"{name}." for name in names)
    return {name for name, _ in net.named_parameters() if name.startswith(prefixes)}


def repeated_blocks(net: nn.Module) -> list[nn.Module]:
    """Return the blocks that stand on top of each other, none within another.

    Recurrent layers of torch are none: each is one kernel already.
    """
    blocks: list[nn.Module] = []
    for module in net.modules():
        if isinstance(module, nn.ModuleList) and len({type(child) for child in module}) == 1:
            within = {id(part) for block in blocks for part in block.modules()}
            blocks += [child for child in module if id(child) not in within]
    return [block for block in blocks if not isinstance(block, nn.RNNBase)]


@cache
def accepted_arguments(class_path: str) -> frozenset[str]:
    """Return the arguments that a class or function takes, those behind its ``**kwargs`` included.

    The command line offers the data's facts to every net and records them all; a net of somebody
    else's may not take each of them.
    """
    target = pkgutil.resolve_name(class_path)
    parser = ArgumentParser(exit_on_error=False)
    add = parser.add_class_arguments if inspect.isclass(target) else parser.add_function_arguments
    return frozenset(key.removeprefix("net.") for key in add(target, "net", fail_untyped=False))


def net_spec(net: nn.Module) -> dict[str, Any] | None:
    """Return how to make the net again, where it records its constructor's arguments; else None."""
    if isinstance(net, RecordsBuilder):
        return dict(net.builder_spec)
    if not isinstance(net, RecordsArguments) or net._hub_mixin_config is None:
        return None
    return {"class_path": public_path(type(net)), "init_args": dict(net._hub_mixin_config)}


@contextmanager
def builders_fit_data(say: Callable[[str], None]) -> Iterator[None]:
    """Have nets of torchvision and timm built for the data's classes and channels.

    Within the context, wherever jsonargparse builds a net by one of their functions.

    Args:
        say: Is told what of pretrained weights starts anew.
    """

    def build(
        builder: Any, *, applied_instantiation_links: dict[str, Any], **arguments: Any
    ) -> nn.Module:
        linked = {
            fact: applied_instantiation_links.get(f"model.init_args.net.init_args.{fact}")
            for fact in ("num_classes", "in_channels")
        }
        of_timm = builder.__module__.startswith("timm.")
        return (build_timm if of_timm else build_torchvision)(builder, arguments, **linked, say=say)

    known, add = list(builders()), cast(Any, add_instantiator)  # whose types are those of classes
    try:
        for builder in known:
            add(build, builder)
        yield
    finally:
        for builder in known:
            add(_as_it_is, builder)


def _as_it_is(builder: Any, *given: Any, **named: Any) -> Any:
    """Build as jsonargparse does by itself, which cannot be told to forget an instantiator."""
    return builder(*given, **named)
