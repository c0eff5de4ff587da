"""Language modelling: predicting the next token, from random weights or pretrained ones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.aggregation import MeanMetric

from datamodules.core.errors import at_least, refuse
from datamodules.core.protocols import (
    IGNORE_INDEX,
    HasMaxLength,
    PackedTokens,
    SupportsTokenSizes,
    data_of,
)
from zoo.callbacks.samples import Samples
from zoo.errors import UserError
from zoo.inference.generation import Writing
from zoo.losses.tokens import logits_loss, token_loss, token_losses
from zoo.metrics.collectors import Collected, in_order
from zoo.metrics.intervals import Intervals, intervals
from zoo.metrics.resampled import language
from zoo.nets.cost import measure_cost
from zoo.nets.outputs import main_logits
from zoo.nets.protocols import (
    CarriesState,
    HasOutputLayer,
    IsPretrained,
    KnowsVocabulary,
    Steps,
)
from zoo.tasks.base import Stage, Task, numbers_of
from zoo.tasks.logged import Logged
from zoo.tasks.net_spec import repeated_blocks

_SIZES = ("byte", "char")


class LanguageModel(Task):
    """Predicts the token that follows each token.

    A batch is a named tuple of ``tokens`` ``(B, T)``, ``labels`` ``(B, T)``, the token that follows
    each place, or -100 where it is not asked for, and perhaps ``position_ids`` and ``segment_ids``
    ``(B, T)``, where a row holds several texts, and ``shared_prefix_len``, how many tokens at its
    start all of them begin with. The net takes ``(tokens, position_ids, segment_ids,
    shared_prefix_len)``, the last only where batches have it, and has ``features``,
    ``output_layer`` and ``step``, as :class:`~zoo.nets.gpt.GPT` has.

    The loss is the mean over the predicted tokens of a whole optimiser step.

    Figures: the loss in nats a token, its perplexity ``exp(loss)``, and where the tokenizer can be
    reversed bits per byte and per character, ``loss * tokens / (ln 2 * bytes)``, which do not
    depend on the tokenizer.

    At each validation the net writes on from some prompts; see
    :class:`~zoo.callbacks.samples.Samples`.

    Args:
        net: The network.
        label_smoothing: Share of each target that all tokens have in common, in training.
        z_loss: Weight of ``log(sum exp logits)^2`` in training, against drifting logits (PaLM,
            arXiv 2204.02311, has 1e-4).
        carry_state: Whether a recurrent net goes on with the state that it ended the window before
            with; for data whose windows are sequential.
        prompts: Texts, or questions, to write on from; the data's own by default.
        sample_tokens: How many tokens are written at most, at validation and by ``predict``.
        temperature: Below 1 sharpens what is drawn from, above 1 flattens it; 0 takes the likeliest
            token.
        top_k: How many tokens may be drawn from at most.
        top_p: Share of the probability that is drawn from (arXiv 1904.09751).
        kwargs: The options of :class:`~zoo.tasks.base.Task`.

    Raises:
        OptionError: If an option lies outside what it may be.
    """

    derived_names: tuple[str, ...] = ("perplexity", "bits_per_byte", "bits_per_char")
    logged: ClassVar[Logged] = Logged(
        val=("loss", "perplexity", "bits_per_byte", "bits_per_char"),
        test=("loss", "perplexity", "bits_per_byte", "bits_per_char"),
        time=("tokens_per_s", "tflops_per_s"),
        tables=("samples",),
    )

    def __init__(
        self,
        net: nn.Module,
        *,
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
        carry_state: bool = False,
        prompts: list[str] | None = None,
        sample_tokens: int = 200,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(net, **kwargs)
        if not 0 <= label_smoothing < 1:
            raise refuse("label_smoothing", label_smoothing, "give 0 up to 1 (excluded)")
        at_least("z_loss", z_loss, 0)
        if carry_state and not isinstance(net, CarriesState):
            raise refuse(
                "carry_state",
                carry_state,
                f"leave it out, as {type(net).__name__} has no state to carry, or choose "
                "RNNLanguageModel",
            )
        if self.compile_net and not repeated_blocks(net):
            remedy = f"leave it out, as {type(net).__name__} has no blocks to compile"
            raise refuse("compile", True, remedy)
        if sample_tokens < 0:
            raise refuse("sample_tokens", sample_tokens, "give 0 (no samples) or more")
        if sample_tokens and not isinstance(net, Steps):
            raise refuse(
                "sample_tokens",
                sample_tokens,
                f"give 0 (no samples), as {type(net).__name__} has no method step to write with",
            )
        if not 0 <= temperature < math.inf:
            raise refuse("temperature", temperature, "give 0 (the likeliest token) or more")
        if top_k is not None:
            at_least("top_k", top_k, 1)
        if top_p is not None and not 0 < top_p <= 1:
            raise refuse("top_p", top_p, "give a number above 0 up to 1")
        self.label_smoothing = label_smoothing
        self.z_loss = z_loss
        self.carry_state = carry_state
        self.prompts = prompts
        self.sample_tokens = sample_tokens
        self.temperature, self.top_k, self.top_p = temperature, top_k, top_p
        self._state: Any = None
        self._sizes: Tensor | None = None
        self._tokens_seen = 0
        self._flops: float | None = None

    # ---------------------------------------------------------------- optimisation

    def modules_without_muon(self) -> list[nn.Module]:
        """Return the output layer, too: its rows stand for tokens."""
        layer = self.output_layer
        return [*super().modules_without_muon(), *([] if layer is None else [layer])]

    def configure_callbacks(self) -> list[Callback]:
        """Add what shows the net's writing."""
        callbacks = super().configure_callbacks()
        has_samples = any(isinstance(c, Samples) for c in self.trainer.callbacks)  # type: ignore[attr-defined]
        if self.sample_tokens and not has_samples:
            # First, as the weights' average gives their place back at a validation's end.
            callbacks.insert(0, Samples())
        return callbacks

    def training_loss_options(self) -> list[str]:
        """Return what only the training's loss has."""
        options = {"label_smoothing": self.label_smoothing, "z_loss": self.z_loss}
        return [name for name, given in options.items() if given]

    def compile_parts(self) -> None:
        """Compile the blocks: it is they that :meth:`features` calls, never the net itself."""
        for block in repeated_blocks(self.net):
            block.compile(mode=self.compile_mode)

    # ---------------------------------------------------------------- figures

    def setup(self, stage: str) -> None:
        """Ask the data for its tokens' sizes."""
        data = data_of(self.trainer)
        self._sizes = data.token_sizes() if isinstance(data, SupportsTokenSizes) else None
        super().setup(stage)

    def build_collectors(self, stage: Stage) -> dict[str, Metric]:
        """Return the mean sizes of the predicted tokens, and at test the sums of each row."""
        sizes: tuple[str, ...] = () if self._sizes is None else _SIZES
        collectors: dict[str, Metric] = {size: MeanMetric() for size in sizes}
        if stage == "test":
            collectors["rows"] = Collected(3 + len(sizes))
        return collectors

    def derived_metrics(self, stage: Stage, artifacts: dict[str, Any]) -> dict[str, float]:
        """Return perplexity and bits."""
        loss = float(self.meters[stage].loss.compute())
        figures = {"perplexity": math.exp(min(loss, 700.0))}
        for size in _SIZES:
            if size in artifacts:
                figures[f"bits_per_{size}"] = loss / math.log(2) / float(artifacts.pop(size))
        return {f"{stage}/{name}": value for name, value in figures.items()}

    def intervals(self, figures: dict[str, float], artifacts: dict[str, Any]) -> Intervals:
        """Return the intervals of a test's figures, whose samples are the rows of its batches."""
        _, *sums = in_order(*artifacts.pop("rows"))
        return intervals(language(torch.stack(sums, dim=1)), figures, len(sums[0]))

    def throughput(self, seen: float, seconds: float) -> dict[str, float]:
        """Return predicted tokens a second and, if it can be counted, the rate of operations."""
        row = {"time/tokens_per_s": seen / seconds}
        if self._flops is not None:
            tokens = self._tokens_seen * self.trainer.world_size
            row["time/tflops_per_s"] = tokens * self._flops / seconds / 1e12
        self._tokens_seen = 0
        return row

    def on_fit_start(self) -> None:
        """Count the operations of a token."""
        super().on_fit_start()
        self._flops = self.flops_per_token()

    def flops_per_token(self) -> float | None:
        """Return operations of a token, forward and back; None where they cannot be counted."""
        data = data_of(self.trainer)
        if not isinstance(data, HasMaxLength) or self.carry_state:
            return None
        length = data.max_length
        cost = measure_cost(self.net, torch.zeros(1, length, dtype=torch.int64, device="meta"))
        if cost.flops is None:
            return None
        # On the way back as much for the features and as much for the weights; frozen weights have
        # no gradient.
        share = cost.trained / max(1, cost.parameters)
        return float(cost.flops / length * (2 + share))

    # ---------------------------------------------------------------- steps

    def forward(self, tokens: Tensor, **packing: Any) -> Tensor:
        """Return logits ``(B, T, V)`` of what follows each token; ``packing`` is the net's."""
        return main_logits(self.net(tokens, **packing), self.net)

    @property
    def output_layer(self) -> nn.Module | None:
        """The layer that makes logits of :meth:`features`; None where the net has no such one."""
        return self.net.output_layer if isinstance(self.net, HasOutputLayer) else None

    def features(self, batch: Any) -> Tensor:
        """Return what the output layer makes logits of, ``(B, T, D)``."""
        if self.carry_state:
            assert isinstance(self.net, CarriesState)
            features, self._state = self.net.carry(batch.tokens, self._state)
            return features
        assert isinstance(self.net, HasOutputLayer)
        return self.net.features(batch.tokens, **_packing(batch))

    def summed_loss(
        self, batch: Any, *, label_smoothing: float = 0.0, z_loss: float = 0.0
    ) -> Tensor:
        """Return the loss of a batch, summed over its predicted tokens."""
        labels = batch.labels.flatten()
        layer = self.output_layer
        options = {"label_smoothing": label_smoothing, "z_loss": z_loss}
        if layer is None:
            logits = self(batch.tokens, **_packing(batch)).flatten(0, 1)
            return logits_loss(logits, labels, **options)
        features = self.features(batch).flatten(0, 1)
        if features.device.type == "cpu":  # elsewhere the host would have to wait for their number
            asked = labels != IGNORE_INDEX
            features, labels = features[asked], labels[asked]
        return token_loss(features, layer, labels, **options)

    def row_losses(self, batch: Any) -> Tensor:
        """Return the loss of each row of a batch, summed over its predicted tokens, ``(B,)``."""
        labels = batch.labels.flatten()
        layer: nn.Module | None = self.output_layer
        if layer is None:
            layer, inputs = nn.Identity(), self(batch.tokens, **_packing(batch)).flatten(0, 1)
        else:
            inputs = self.features(batch).flatten(0, 1)
        rows = torch.arange(len(batch.tokens), device=labels.device)
        rows = rows.repeat_interleave(batch.tokens.shape[1])
        if labels.device.type == "cpu":  # elsewhere the host would have to wait for their number
            asked = labels != IGNORE_INDEX
            inputs, labels, rows = inputs[asked], labels[asked], rows[asked]
        losses = token_losses(inputs, layer, labels)
        return losses.new_zeros(len(batch.tokens)).index_add(0, rows, losses)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        summed = self.summed_loss(batch, label_smoothing=self.label_smoothing, z_loss=self.z_loss)
        count = (batch.labels != IGNORE_INDEX).sum()
        loss = summed / count.clamp(min=1)
        self._tokens_seen += batch.tokens.numel()
        self.log_training(loss, count)
        return self.share_of_step(loss, count)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Also refuse tokens that the net does not know."""
        super().on_train_batch_start(batch, batch_idx)
        first = self.global_step == 0 and batch_idx == 0
        if first and isinstance(self.net, KnowsVocabulary):
            highest, known = int(batch.tokens.max()), self.net.vocab_size
            if highest >= known:
                raise UserError(
                    f"the data has a token {highest}, but the net's vocab_size is {known}; "
                    "give both the same tokenizer"
                )

    def on_train_epoch_start(self) -> None:
        """Start the epoch's texts without a state, unless the run goes on in its middle."""
        super().on_train_epoch_start()
        if self.trainer.fit_loop.epoch_loop.batch_progress.current.ready == 0:
            self._state = None

    def on_validation_epoch_start(self) -> None:
        """Put the training's state aside."""
        super().on_validation_epoch_start()
        self._aside, self._state = self._state, None

    def on_validation_epoch_end(self) -> None:
        """Take the training's state up again."""
        super().on_validation_epoch_end()
        self._state, self._aside = self._aside, None

    def on_test_epoch_start(self) -> None:
        """Start without a state."""
        super().on_test_epoch_start()
        self._state = None

    def add_batch(self, stage: Stage, batch: Any) -> None:
        """Add one batch to the figures of a stage."""
        meters = self.meters[stage]
        asked = batch.labels != IGNORE_INDEX
        count = asked.sum()
        of_rows: list[Tensor] = []
        if stage == "test":
            losses = self.row_losses(batch)
            of_rows = [numbers_of(batch, batch.tokens), losses, asked.sum(1)]
            summed = losses.sum()
        else:
            summed = self.summed_loss(batch)
        meters.loss.update(summed / count.clamp(min=1), count)
        if self._sizes is not None:
            self._sizes = self._sizes.to(self.device)
            of_tokens = self._sizes[batch.labels.clamp(min=0)] * asked.unsqueeze(2)
            for number, size in enumerate(_SIZES):
                mean = of_tokens[..., number].sum() / count.clamp(min=1)
                meters.collectors[size].update(mean, count)
                of_rows.append(of_tokens[..., number].sum(1))
        if stage == "test":
            meters.collectors["rows"].update(*of_rows)

    # ---------------------------------------------------------------- writing

    @property
    def is_pretrained(self) -> bool:
        """Whether the net could write before this training."""
        return isinstance(self.net, IsPretrained) and self.net.is_pretrained

    def write(self, prompt: Sequence[int], *, stop_ids: Sequence[int] = ()) -> Iterator[int]:
        """Write on from a prompt, by the task's options; see ``zoo.inference.generation``.

        Of one that is longer than the net's context the end is read.
        """
        return self.writing().write(self.net, prompt, stop_ids=stop_ids, seed=self.seed)

    def writing(self) -> Writing:
        """Return how the net writes on, by the task's options."""
        return Writing(self.sample_tokens, self.temperature, self.top_k, self.top_p)

    # ---------------------------------------------------------------- checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the state that is carried from window to window."""
        super().on_save_checkpoint(checkpoint)
        if self._state is not None:
            checkpoint["zoo"]["state"] = [part.cpu() for part in self._state]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up that state; only one process has it."""
        super().on_load_checkpoint(checkpoint)
        state = checkpoint.get("zoo", {}).get("state")
        if state is not None:
            self._state = [part.to(self.device) for part in state]


def _packing(batch: Any) -> dict[str, Any]:
    """Return how a batch's texts share its rows, if it says so, as the net's arguments."""
    if not isinstance(batch, PackedTokens):
        return {}
    packing = {"position_ids": batch.position_ids, "segment_ids": batch.segment_ids}
    shared = batch.shared_prefix_len
    return {**packing, "shared_prefix_len": shared} if shared else packing
