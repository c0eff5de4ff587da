"""Learning which of two answers is preferred, without a model of rewards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.aggregation import MeanMetric

from datamodules.core.errors import above, one_of, refuse
from datamodules.core.protocols import IGNORE_INDEX, PackedTokens
from zoo.errors import UserError
from zoo.metrics.collectors import Collected, in_order
from zoo.metrics.intervals import Intervals, intervals
from zoo.metrics.resampled import preferences
from zoo.nets.protocols import HasAdapter
from zoo.tasks.base import Stage, numbers_of
from zoo.tasks.language_model import LanguageModel
from zoo.tasks.logged import Logged

PreferenceLoss = Literal["sigmoid", "ipo"]
"""Losses of pairs of answers.

Names:
    sigmoid: DPO's: the chosen answer's reward over the rejected one's (arXiv 2305.18290).
    ipo: Squared distance of that difference from a fixed margin (arXiv 2310.12036).
"""


class Comparison(NamedTuple):
    """What a net makes of some pairs.

    Attributes:
        losses: Of each pair, ``(B,)``.
        margins: How much more reward the chosen answer has than the rejected one, ``(B,)``.
    """

    losses: Tensor
    margins: Tensor


class PreferenceTuning(LanguageModel):
    """Direct preference optimisation, DPO (Rafailov et al., arXiv 2305.18290).

    A batch has ``2 B`` rows: the chosen answers, each behind its prompt, and then in the same order
    the rejected ones. With ``log pi(y)``, the log-probability that the net gives to an answer's
    tokens, and ``log ref(y)``, which the base model gives, an answer has the reward
    ``r(y) = beta * (log pi(y) - log ref(y))``. With ``m = r(chosen) - r(rejected)`` the loss of a
    pair is

    - sigmoid: ``-(1 - s) log sigmoid(m) - s log sigmoid(-m)``, where ``s``, ``label_smoothing``, is
      the share of pairs that are thought to be the wrong way round (0 in the paper; with more it is
      known as conservative DPO);
    - ipo: ``(m / beta - 1 / (2 beta))^2`` (Azar et al., arXiv 2310.12036), with log-probabilities
      that are means over an answer's tokens, as in trl, not sums.

    The base model is the net with its adapter switched off, in evaluation mode, so that no second
    model is held: the net needs LoRA.

    Figures: the loss; ``reward_accuracy``, the share of pairs whose chosen answer has more reward;
    ``reward_margin``, the mean of ``m``.

    Args:
        net: The network, a :class:`~zoo.nets.pretrained.causal_lm.PretrainedCausalLM` with LoRA.
        beta: How closely the net is kept to the base model: the lower, the farther it may go.
        loss: ``sigmoid`` or ``ipo``.
        kwargs: The options of :class:`~zoo.tasks.language_model.LanguageModel`.

    Raises:
        OptionError: If an option lies outside what it may be, or the net has no adapter.
    """

    derived_names = ("reward_accuracy", "reward_margin")
    logged: ClassVar[Logged] = Logged(
        train=("loss", "reward_accuracy", "reward_margin"),
        val=("loss", "reward_accuracy", "reward_margin"),
        test=("loss", "reward_accuracy", "reward_margin"),
        time=("pairs_per_s",),
        tables=("samples",),
    )

    def __init__(
        self, net: nn.Module, *, beta: float = 0.1, loss: PreferenceLoss = "sigmoid", **kwargs: Any
    ) -> None:
        super().__init__(net, **kwargs)
        above("beta", beta)
        one_of("loss", loss, get_args(PreferenceLoss))
        if self.label_smoothing >= 0.5:
            remedy = "give less than 0.5, at which nothing would be preferred"
            raise refuse("label_smoothing", self.label_smoothing, remedy)
        if loss == "ipo" and self.label_smoothing:
            remedy = "leave it out with loss ipo, as it belongs to sigmoid"
            raise refuse("label_smoothing", self.label_smoothing, remedy)
        for name, value in (("z_loss", self.z_loss), ("carry_state", self.carry_state)):
            if value:
                raise refuse(name, value, "leave it out, as it means nothing to preferences")
        if not isinstance(net, HasAdapter) or not net.lora:
            raise refuse(
                "net",
                type(net).__name__,
                "take PretrainedCausalLM with lora: true, whose adapter is switched off for the "
                "base model's log-probabilities",
            )
        self.beta = beta
        self.loss_name: PreferenceLoss = loss

    # ---------------------------------------------------------------- steps

    def compare(self, batch: Any, *, label_smoothing: float = 0.0) -> Comparison:
        """Return loss and margins of a batch of pairs.

        Args:
            batch: ``2 B`` rows, the chosen answers first.
            label_smoothing: Share of pairs that are the wrong way round.

        Raises:
            UserError: If the batch does not hold pairs.
        """
        packed = isinstance(batch, PackedTokens) and batch.segment_ids is not None
        if len(batch.tokens) % 2 or packed:
            raise UserError(
                "the data's batches are not pairs of answers; take the data module Preferences"
            )
        with torch.no_grad(), self._as_base():
            base = self._log_probs(batch)
        gains = self._log_probs(batch) - base
        chosen, rejected = gains.chunk(2)
        ahead = chosen - rejected
        margins = self.beta * ahead
        if self.loss_name == "ipo":
            losses = (ahead - 1 / (2 * self.beta)).square()
        else:
            right, wrong = F.logsigmoid(margins), F.logsigmoid(-margins)
            losses = -(1 - label_smoothing) * right - label_smoothing * wrong
        return Comparison(losses, margins.detach())

    @contextmanager
    def _as_base(self) -> Iterator[None]:
        """Let the net be the base model, without dropout."""
        training = self.net.training
        assert isinstance(self.net, HasAdapter)
        adapter_off = self.net.adapter_off()
        self.net.eval()
        try:
            with adapter_off:
                yield
        finally:
            self.net.train(training)

    def _log_probs(self, batch: Any) -> Tensor:
        """Return the log-probability of each row's labels, or with ipo their mean; ``(2 B,)``."""
        sums = -self.row_losses(batch)
        if self.loss_name == "ipo":
            sums = sums / (batch.labels != IGNORE_INDEX).sum(dim=1).clamp(min=1)
        return sums

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of one batch of pairs."""
        compared = self.compare(batch, label_smoothing=self.label_smoothing)
        pairs = len(compared.margins)
        loss = compared.losses.sum() / pairs
        self.log_training(
            loss,
            pairs,
            reward_accuracy=(compared.margins > 0).sum(),
            reward_margin=compared.margins.sum(),
        )
        return self.share_of_step(loss, pairs)

    def flops_per_token(self) -> float | None:
        """Return None: pairs differ in length."""
        return None

    def throughput(self, seen: float, seconds: float) -> dict[str, float]:
        """Return pairs a second."""
        return {"time/pairs_per_s": seen / seconds}

    # ---------------------------------------------------------------- figures

    def build_collectors(self, stage: Stage) -> dict[str, Metric]:
        """Return means over pairs, and at test what each pair adds to them."""
        collectors: dict[str, Metric] = {name: MeanMetric() for name in self.derived_names}
        return {**collectors, "pairs": Collected(3)} if stage == "test" else collectors

    def derived_metrics(self, stage: Stage, artifacts: dict[str, Any]) -> dict[str, float]:
        """Return those means."""
        return {f"{stage}/{name}": float(artifacts.pop(name)) for name in self.derived_names}

    def intervals(self, figures: dict[str, float], artifacts: dict[str, Any]) -> Intervals:
        """Return the intervals of a test's figures, Wilson's of the share of pairs."""
        _, losses, margins = in_order(*artifacts.pop("pairs"))
        of_resamples = preferences(losses, margins)
        return intervals(of_resamples, figures, len(losses), shares=("reward_accuracy",))

    def add_batch(self, stage: Stage, batch: Any) -> None:
        """Add one batch of pairs to the figures of a stage."""
        compared = self.compare(batch)
        pairs = len(compared.margins)
        meters = self.meters[stage]
        meters.loss.update(compared.losses.sum() / pairs, pairs)
        meters.collectors["reward_accuracy"].update((compared.margins > 0).float().mean(), pairs)
        meters.collectors["reward_margin"].update(compared.margins.mean(), pairs)
        if stage == "test":
            numbers = numbers_of(batch, batch.tokens)[:pairs]
            meters.collectors["pairs"].update(numbers, compared.losses, compared.margins)
