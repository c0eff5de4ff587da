"""Nets of torchvision and timm with the data's classes and channels, pretrained or not."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from datamodules.core.errors import known, refuse
from datamodules.core.hub import hub_unreachable
from zoo.nets.pretrained.torchvision_weights import first_line, read_weights

Say = Callable[[str], None]

#: What builders call the number of channels, which torchvision's do not have.
_OF_TORCHVISION, _OF_TIMM = "in_channels", "in_chans"


def build_torchvision(
    builder: Callable[..., nn.Module],
    arguments: Mapping[str, Any],
    *,
    num_classes: int | None,
    in_channels: int | None,
    say: Say,
) -> nn.Module:
    """Build a net of torchvision for the data, its weights fitted to that.

    Weights of another number of classes get new last layers; of another number of channels, a first
    convolution whose weights are summed for one channel, and else repeated, as timm does.

    Args:
        builder: Such as ``torchvision.models.resnet18``.
        arguments: What it is given.
        num_classes: Classes of the data; None for the builder's own number.
        in_channels: Channels of the data; None for three.
        say: Is told what starts anew.

    Returns:
        The net; its ``builder_spec`` says how to build the same without weights.

    Raises:
        OptionError: If the weights can be neither downloaded nor read, or do not fit.
    """
    arguments = dict(arguments)
    from torchvision import models

    place = "torchvision.models"
    if getattr(models, builder.__name__, None) is not builder:  # of segmentation, say
        place = builder.__module__
    name = f"{place}.{builder.__name__}"
    channels = arguments.pop(_OF_TORCHVISION, in_channels) or 3
    weights = {option: arguments[option] for option in _weights_in(arguments)}
    for entry in weights.values():
        read_weights(entry)  # a missing or broken file ends in a sentence
    trained = weights.get("weights")
    wanted = arguments.get("num_classes") or num_classes
    if trained is not None:
        arguments.pop("num_classes", None)  # the builder takes the weights' own number alone
    elif wanted is not None:
        arguments["num_classes"] = wanted
    net = builder(**arguments)
    if trained is not None:
        had = len(trained.meta["categories"])
        if wanted not in (None, had):
            layers = _renew_heads(net, had, wanted)
            say(
                f"{name}: its weights {trained.name} tell {had} classes apart and the data "
                f"{wanted}, so {' and '.join(layers)} start{'s' * (len(layers) == 1)} anew"
            )
    if channels != 3:
        if getattr(net, "transform_input", False):
            raise refuse(
                "weights",
                None if trained is None else trained.name,
                f"they are for images of three colours, and the data's have {channels} "
                f"channel{'s' * (channels != 1)}; set data.channels to 3",
            )
        _adapt_first_convolution(net, channels)
    spec = {**arguments, **dict.fromkeys(weights), **_settled(net)}
    if wanted is not None:
        spec["num_classes"] = wanted
    _record(net, name, spec, {} if channels == 3 else {_OF_TORCHVISION: channels})
    return net


def build_timm(
    builder: Callable[..., nn.Module],
    arguments: Mapping[str, Any],
    *,
    num_classes: int | None,
    in_channels: int | None,
    say: Say,
) -> nn.Module:
    """Build a net of timm for the data; timm fits its weights to that.

    Args:
        builder: ``timm.create_model``.
        arguments: What it is given.
        num_classes: Classes of the data.
        in_channels: Channels of the data.
        say: Is told what starts anew.

    Returns:
        The net; its ``builder_spec`` says how to build the same without weights.

    Raises:
        OptionError: If there is no such net, or its weights cannot be had.
    """
    import timm

    arguments = dict(arguments)
    named = {_OF_TIMM: in_channels, "num_classes": num_classes}
    extra = {name: value for name, value in named.items() if value is not None}
    extra |= {name: arguments.pop(name) for name in named if name in arguments}
    model = str(arguments["model_name"])
    if ":" not in model and not timm.is_model(model):
        remedy = known(model.partition(".")[0], timm.list_models())
        raise refuse("model_name", model, f"timm has no net of that name; {remedy}")
    why = hub_unreachable() if arguments.get("pretrained") else None
    try:
        with _only_cached() if why else nullcontext():
            net = builder(**arguments, **extra)
    except Exception as error:  # no network, no such weights, a file of something else
        is_pickle = any(isinstance(e, pickle.UnpicklingError) for e in (error, error.__context__))
        if is_pickle and arguments.get("checkpoint_path"):
            remedy = (
                "it holds more than plain data, and is not opened: give a file of tensors alone"
            )
            raise refuse("checkpoint_path", str(arguments["checkpoint_path"]), remedy) from None
        if not arguments.get("pretrained"):
            raise
        raise refuse(
            "model_name",
            model,
            f"its weights could not be had ({why or first_line(error)[:200]}); fetch them once "
            "where there is a network, give their file as pretrained_cfg_overlay: {file: FILE}, or "
            "set pretrained to false",
        ) from None
    trained = getattr(net, "pretrained_cfg", None) or {}
    had, classes = trained.get("num_classes"), extra.get("num_classes")
    if arguments.get("pretrained") and classes is not None and had not in (None, classes):
        heads = trained.get("classifier") or ()
        layers = " and ".join([heads] if isinstance(heads, str) else heads) or "the last layer"
        say(
            f"timm's {model}: its weights tell {had} classes apart and the data {classes}, so "
            f"{layers} starts anew"
        )
    spec = {**arguments, "pretrained": False, "checkpoint_path": None}
    spec.pop("pretrained_cfg_overlay", None)
    _record(net, "timm.create_model", spec, extra)
    return net


@contextmanager
def _only_cached() -> Iterator[None]:
    """Have files of the hub looked for on this disk alone, instead of asking it again and again."""
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _weights_in(arguments: Mapping[str, Any]) -> Iterator[str]:
    """Yield the options that name weights of torchvision's registry."""
    from torchvision.models import WeightsEnum

    yield from (option for option, value in arguments.items() if isinstance(value, WeightsEnum))


def _record(net: nn.Module, name: str, spec: dict[str, Any], extra: dict[str, Any]) -> None:
    record: dict[str, Any] = {"class_path": name, "init_args": spec}
    if extra:  # what the builder's signature does not have
        record["dict_kwargs"] = extra
    net.builder_spec = record  # type: ignore[assignment]  # plain data, no module


def _settled(net: nn.Module) -> dict[str, Any]:
    """Return options that a builder of torchvision sets by itself where it has weights."""
    found: dict[str, Any] = {
        option: getattr(net, option)
        for option in ("aux_logits", "transform_input")
        if isinstance(getattr(net, option, None), bool)
    }
    if hasattr(net, "aux_classifier"):
        found["aux_loss"] = net.aux_classifier is not None
    return found


def _renew_heads(net: nn.Module, had: int, classes: int) -> list[str]:
    """Put new layers in the place of those with an output a class; return their names."""
    found = [
        (name, layer)
        for name, layer in net.named_modules()
        if (isinstance(layer, nn.Linear) and layer.out_features == had)
        or (isinstance(layer, nn.Conv2d) and layer.out_channels == had)
    ]
    for name, layer in found:
        new: nn.Module
        if isinstance(layer, nn.Linear):
            new = nn.Linear(layer.in_features, classes, bias=layer.bias is not None)
        else:
            new = _like(layer, layer.in_channels, classes)
        net.set_submodule(name, new)
    return [name for name, _ in found]


def first_convolution(net: nn.Module) -> tuple[str, nn.Conv2d] | None:
    """Return the convolution that images reach first, with its name; None if there is none."""
    layers = ((name, each) for name, each in net.named_modules() if isinstance(each, nn.Conv2d))
    return next(layers, None)


def _adapt_first_convolution(net: nn.Module, channels: int) -> None:
    found = first_convolution(net)
    if found is None:
        return  # the check of the net will tell
    name, layer = found
    new = _like(layer, channels, layer.out_channels)
    with torch.no_grad():
        new.weight.copy_(adapted(layer.weight, channels))
        if new.bias is not None and layer.bias is not None:
            new.bias.copy_(layer.bias)
    net.set_submodule(name, new)


def adapted(weight: Tensor, channels: int) -> Tensor:
    """Return a first convolution's weights (O, I, K, K) for another number of channels, as timm's.

    For one channel they are summed, so that a grey image gives what its three equal colours would;
    for others they are repeated, and scaled by I over their number.
    """
    own = weight.shape[1]
    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    repeated = weight.repeat(1, -(-channels // own), 1, 1)[:, :channels]
    return repeated * (own / channels)


def _like(layer: nn.Conv2d, in_channels: int, out_channels: int) -> nn.Conv2d:
    """Return a new convolution of other channels."""
    return nn.Conv2d(
        in_channels,
        out_channels,
        layer.kernel_size,  # type: ignore[arg-type]  # torch's own stubs call it a longer tuple
        layer.stride,  # type: ignore[arg-type]
        layer.padding,  # type: ignore[arg-type]
        layer.dilation,  # type: ignore[arg-type]
        bias=layer.bias is not None,
        padding_mode=layer.padding_mode,
    )
