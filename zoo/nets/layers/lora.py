"""Low-rank matrices beside the linear layers of a model of transformers, by peft."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from datamodules.core.errors import did_you_mean, refuse

if TYPE_CHECKING:  # imported when a model is built: it takes seconds, and other nets need none
    from transformers import PreTrainedModel

Targets = list[str] | Literal["all-linear"]

_OWN = ".lora_"  # in the names of all parameters that LoRA and DoRA add


def is_added(name: str) -> bool:
    """Whether the parameter of that name is one that ``add_lora`` added."""
    return _OWN in name


def add_lora(
    model: PreTrainedModel,
    what: str,
    *,
    rank: int,
    alpha: float,
    dropout: float,
    targets: Targets,
    dora: bool = False,
    rslora: bool = False,
) -> None:
    """Put low-rank matrices beside linear layers, in place, and freeze all else.

    Hu et al., arXiv 2106.09685: a layer gives ``W x + alpha / rank * B A x``, where ``A`` starts at
    random and ``B`` at zero. They are float32 whatever the model's weights are.

    Args:
        model: The model; layers behind its base, which end in logits, get none.
        what: What it is called in a message.
        rank: Rows of ``A`` and columns of ``B``.
        alpha: The scale, over the rank.
        dropout: Probability of dropping a feature before ``A``.
        targets: Names of the layers, whole or from a dot on, or ``all-linear``.
        dora: Whether lengths of the matrices' columns are trained apart from their directions
            (arXiv 2402.09353).
        rslora: Whether the scale is over the root of the rank (arXiv 2312.03732).

    Raises:
        ValueError: If a target is none of the linear layers.
    """
    from peft import LoraConfig, inject_adapter_in_model

    names = _find_targets(model, what, targets)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # peft divides it by the rank
        lora_dropout=dropout,
        target_modules=names,
        use_dora=dora,
        use_rslora=rslora,
        # GPT-2's layers keep their weights the other way round.
        fan_in_fan_out=not isinstance(model.get_submodule(names[0]), nn.Linear),
    )
    inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_added(name))
        if is_added(name):
            parameter.data = parameter.data.float()


@contextmanager
def lora_off(model: nn.Module) -> Iterator[None]:
    """Compute without the low-rank matrices for a while."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    try:
        for layer in layers:
            layer.enable_adapters(False)
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


@torch.no_grad()
def merge_lora(model: nn.Module) -> None:
    """Add the low-rank matrices to the weights that they stand beside, in place."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            model.set_submodule(name, module.get_base_layer())


def _find_targets(model: PreTrainedModel, what: str, targets: Targets) -> list[str]:
    """Whole names of the base's linear layers that are meant.

    Raises:
        ValueError: If a target is none of them.
    """
    from transformers.pytorch_utils import Conv1D  # GPT-2's linear layer

    base = model.base_model_prefix
    linear = [
        name
        for name, module in getattr(model, base).named_modules(prefix=base)
        if isinstance(module, nn.Linear | Conv1D)
    ]
    if targets == "all-linear":
        return linear
    known = sorted({name.rpartition(".")[2] for name in linear})
    if isinstance(targets, str) or not targets:
        raise refuse(
            "lora_targets",
            targets,
            f"give 'all-linear' or a list of layers, of {', '.join(known)}",
        )
    chosen: list[str] = []
    for target in targets:
        meant = [name for name in linear if f".{name}".endswith(f".{target}")]
        if not meant:
            raise refuse(
                "lora_targets",
                target,
                f"it is no linear layer of {what}; give one of {', '.join(known)}"
                + did_you_mean(target, known),
            )
        chosen += meant
    return chosen
