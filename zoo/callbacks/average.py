"""The moving average of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage(Callback):
    """Keeps an exponential moving average of the weights: what is validated, tested and saved.

    The average warms up: after ``t`` steps the decay is ``min(decay, (1 + t) / (10 + t))``, as of
    TensorFlow's ``ExponentialMovingAverage``, so that it reaches over the last ninth of a short
    run, and not back to its random start. The first step's weights are copied.

    Buffers are the trained net's own. Batch norm's running statistics are averages already, which
    a second average would hold back behind the weights. Lightning's ``WeightAveraging`` handles
    each buffer by itself in every step; here a step costs one call for all weights. Of weights in
    half precision, which a small change is lost in, the average is in float32.

    Args:
        decay: Share of the average that stays in each step.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self._weights: list[Tensor] = []
        self._average: list[Tensor] = []
        # The trained weights while the average is in their place.
        self._aside: list[Tensor] = []
        self._latest_step = 0

    # ---------------------------------------------------------------- averaging

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start from the weights, or from a checkpoint's average, now that they are in place."""
        self._weights = _weights_of(pl_module)
        self._average = [
            start.detach().to(
                weight.device, torch.promote_types(weight.dtype, torch.float32), copy=True
            )
            for start, weight in zip(self._average or self._weights, self._weights, strict=True)
        ]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count the steps from here."""
        self._latest_step = trainer.global_step

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take in the weights of an optimiser step."""
        step = trainer.global_step
        if step == self._latest_step:  # gradients are still being accumulated
            return
        self._latest_step = step
        before = step - 1
        decay = min(self.decay, (1 + before) / (10 + before)) if before else 0.0
        update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        pairs = zip(self._weights, self._average, strict=True)
        update(self._average, [weight.to(average.dtype) for weight, average in pairs], None)

    # ---------------------------------------------------------------- in the weights' place

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the average in the weights' place."""
        if trainer.state.fn == "fit":
            self._aside = [weight.detach().clone() for weight in self._weights]
            self._set(self._average)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the weights back; what looks at the average then comes before this callback."""
        self._set(self._aside)
        self._aside = []

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Put the weights back."""
        self.on_validation_end(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the average in the net."""
        self._set(self._average)

    @torch.no_grad()
    def _set(self, values: list[Tensor]) -> None:
        for weight, value in zip(self._weights, values, strict=False):  # none are aside
            weight.copy_(value)

    # ---------------------------------------------------------------- checkpoints

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the average as the net's weights, and the trained weights beside them."""
        if not self._average:  # outside of training the net's weights are the average
            return
        state, weights = checkpoint["state_dict"], self._aside or self._weights
        checkpoint["current_model_state"] = state | self._named(pl_module, weights, state)
        checkpoint["state_dict"] = state | self._named(pl_module, self._average, state)

    def _named(
        self, pl_module: LightningModule, values: list[Tensor], state: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Return the weights' values by those of their names that a state has."""
        pairs = zip(self._weights, values, strict=True)
        by_weight = {id(weight): value.detach() for weight, value in pairs}
        named = pl_module.named_parameters(remove_duplicate=False)  # tied weights have two names
        return {n: by_weight[id(w)] for n, w in named if n in state and id(w) in by_weight}

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on with both, of which the average has been loaded as the net's weights."""
        if trainer.state.fn == "fit" and "current_model_state" in checkpoint:
            self._average = [weight.detach().clone() for weight in _weights_of(pl_module)]
            pl_module.load_state_dict(checkpoint["current_model_state"])


def too_short_for(decay: float, steps: int) -> bool:
    """Tell whether an average warms up until the end of a run of so many steps.

    >>> too_short_for(0.98, 439), too_short_for(0.98, 441)
    (True, False)
    """
    return steps < (10 * decay - 1) / (1 - decay)


def _weights_of(module: LightningModule) -> list[Tensor]:
    return [weight for weight in module.parameters() if weight.is_floating_point()]
