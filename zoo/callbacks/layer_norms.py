"""How large gradients and weights are, layer by layer, at log points."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from zoo.callbacks.train_log import log_interval
from zoo.run.wandb_logger import active_wandb


class LayerNorms(Callback):
    """Logs each layer's norm of gradient and weights to W&B, ``grad_norm/*`` and ``weight_norm/*``.

    A layer is a module with parameters of its own; its norm is the Euclidean one over all of them.
    The gradient is the one of the step that was just made, as the optimiser got it, after clipping.
    Nothing is computed, and nothing read from the device, between two log points.
    """

    def __init__(self) -> None:
        self._logged_step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the step to go on from for logged."""
        self._logged_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the norms of a step that is a log point."""
        step = trainer.global_step
        if step == self._logged_step or step % log_interval(trainer):
            return
        self._logged_step = step
        loggers = active_wandb(trainer)
        if not loggers or not trainer.is_global_zero:
            return
        row = layer_norms(getattr(pl_module, "net", pl_module))
        for logger in loggers:
            logger.log_metrics(row, step)


def layer_norms(net: nn.Module) -> dict[str, float]:
    """Return the norms of gradient and weights of each layer; waits for the device once.

    Layers without a gradient have their weights' norm alone.

    >>> layer = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.constant_(layer.weight, -2.0)
    >>> layer_norms(nn.Sequential(layer))
    {'weight_norm/0': 2.0}
    """
    norms: dict[str, Tensor] = {}
    for name, module in net.named_modules():
        own = [each.detach() for each in module.parameters(recurse=False)]
        grads = [each.grad for each in module.parameters(recurse=False) if each.grad is not None]
        for kind, tensors in (("grad_norm", grads), ("weight_norm", own)):
            if tensors:
                norms[f"{kind}/{name or 'net'}"] = _norm(tensors)
    if not norms:
        return {}
    return dict(zip(norms, torch.stack([*norms.values()]).tolist(), strict=True))


def _norm(tensors: list[Tensor]) -> Tensor:
    """Return the norm over all elements of some tensors, float32."""
    norms = torch.stack([torch.linalg.vector_norm(each.float()) for each in tensors])
    norm: Tensor = torch.linalg.vector_norm(norms)
    return norm
