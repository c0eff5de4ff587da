"""Text classification."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

from torch import Tensor, nn
from torchmetrics import Metric

from datamodules.core.errors import blamed, refuse
from datamodules.core.protocols import HasLengths, HasTokenizer, data_of
from zoo.inference.outputs import TextClassAnswers
from zoo.metrics.collectors import MostWrong
from zoo.nets.layers.embeddings import TokenEmbedding, load_vectors
from zoo.nets.layers.pooling import Pooling
from zoo.nets.protocols import HasLayerDepths, ShowsAttention
from zoo.tasks.base import Stage
from zoo.tasks.classifier import Classifier
from zoo.tasks.logged import Logged

_LENGTH_SHOWN, _TEXTS_SHOWN = 40, 6


class TextClassifier(Classifier):
    """Puts a text into one of several classes, or gives it any number of labels.

    A batch is a named tuple whose first two are tokens ``(B, T)`` and labels ``(B,)``, for
    ``multilabel`` zeros and ones ``(B, num_classes)``, and which has ``lengths`` ``(B,)``, the
    tokens of each text without padding. The net takes tokens and lengths and gives logits
    ``(B, num_classes)``.

    Args:
        net: The network.
        vectors: A file of word vectors in the text format of fastText or GloVe, that the net's
            embedding starts from; for a tokenizer of whole words. Words that the file lacks keep
            their random start.
        layer_lr_decay: Factor on the learning rate from each layer of a pretrained encoder to the
            one before it, 0.8 say; the last layers learn at the full rate (arXiv 1801.06146).
        kwargs: The options of :class:`~zoo.tasks.classifier.Classifier`.

    Raises:
        OptionError: If an option lies outside what it may be.
    """

    logged: ClassVar[Logged] = Classifier.logged._replace(
        tables=(*Classifier.logged.tables, "wrong_texts")
    )

    def __init__(
        self,
        net: nn.Module,
        *,
        vectors: str | None = None,
        layer_lr_decay: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(net, **kwargs)
        if "attention_mask" in inspect.signature(net.forward).parameters:
            raise refuse(
                "net",
                type(net).__name__,
                "choose PretrainedEncoder, or wrap it in a net that takes tokens and lengths: it "
                "would take the lengths for its attention_mask",
            )
        if not 0 < layer_lr_decay <= 1:
            remedy = "give a number above 0 up to 1 (no decay)"
            raise refuse("layer_lr_decay", layer_lr_decay, remedy)
        if layer_lr_decay < 1 and not isinstance(net, HasLayerDepths):
            raise refuse(
                "layer_lr_decay",
                layer_lr_decay,
                f"leave it out, as {type(net).__name__} does not say how deep its layers are, or "
                "choose PretrainedEncoder",
            )
        if vectors is not None and _embedding(net) is None:
            raise refuse(
                "vectors",
                vectors,
                f"leave it out, as {type(net).__name__} has no embedding to fill, or choose a net "
                "that learns its own, such as RNNClassifier",
            )
        self.vectors = vectors
        self.layer_lr_decay = layer_lr_decay
        self._shown: tuple[Tensor, Tensor] | None = None

    def lr_factors(self) -> dict[str, float]:
        """Return factors on the learning rate by the names of the net's parameters."""
        factors = super().lr_factors()
        if self.layer_lr_decay < 1:
            assert isinstance(self.net, HasLayerDepths)
            depths = self.net.layer_depths()
            deepest = max(depths.values())
            for name, _ in self.net.named_parameters():
                part = next(p for p in depths if name == p or name.startswith(f"{p}."))
                decay = self.layer_lr_decay ** (deepest - depths[part])
                factors[name] = factors.get(name, 1.0) * decay
        return factors

    def inputs(self, batch: Any) -> tuple[Tensor, ...]:
        """Return tokens and, where the batch has them, lengths."""
        return self.answers().inputs(batch)

    def forward(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return logits ``(B, num_classes)`` of tokens ``(B, T)``."""
        return self.answers().logits(self.net, tokens, *([] if lengths is None else [lengths]))

    def answers(self) -> TextClassAnswers:
        """Return how predictions are made of texts."""
        return TextClassAnswers(self.label_kind, self.temperature)

    def on_fit_start(self) -> None:
        """Fill the embedding with given vectors, unless a checkpoint's weights are there."""
        super().on_fit_start()
        if self.vectors is None or self.trainer.ckpt_path is not None:
            return
        data = data_of(self.trainer)
        if not isinstance(data, HasTokenizer):
            raise refuse(
                "model.vectors",
                self.vectors,
                "leave it out, or take a data module with a tokenizer, whose words it looks up",
            )
        embedding = _embedding(self.net)
        assert embedding is not None
        taken = {id(value) for name, value in self.named_parameters() if name in self.taken}
        if any(id(value) in taken for value in embedding.parameters()):
            return  # of the checkpoint that the training starts from
        try:
            found = load_vectors(
                self.vectors, data.text_tokenizer.vocabulary(), embedding.embedding_dim
            )
        except (ValueError, OSError) as error:
            raise blamed("model.vectors", error) from error
        embedding.set_vectors(found.table.to(self.device))
        if self.trainer.is_global_zero:
            print(f"{self.vectors} has vectors for {found.coverage:.1%} of the vocabulary")

    def build_collectors(self, stage: Stage) -> dict[str, Metric]:
        """Add which texts a test got most wrong."""
        collectors = super().build_collectors(stage)
        if stage == "test":
            collectors["wrong_texts"] = MostWrong(keep=100)
        return collectors

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Also keep a few texts of a length that a picture of the attention can show."""
        super().test_step(batch, batch_idx)
        pool = dict(self.net.named_children()).get("pool")
        pools_by = pool.kind if isinstance(pool, Pooling) else None
        tokens = batch[0]
        if pools_by == "attention" and isinstance(batch, HasLengths):
            width = tokens.shape[1]
            if self._shown is None or abs(width - _LENGTH_SHOWN) < abs(
                self._shown[0].shape[1] - _LENGTH_SHOWN
            ):
                self._shown = tokens[:_TEXTS_SHOWN], batch.lengths[:_TEXTS_SHOWN]

    def derived_metrics(self, stage: Stage, artifacts: dict[str, Any]) -> dict[str, float]:
        """Add what attention pooling weighs of a few texts."""
        figures = super().derived_metrics(stage, artifacts)
        if stage == "test" and self._shown is not None:
            tokens, lengths = self._shown
            assert isinstance(self.net, ShowsAttention)
            weights = self.net.attention_weights(tokens, lengths)
            artifacts["attention"] = [
                (row[:length], weight[:length])
                for row, weight, length in zip(tokens, weights, lengths.tolist(), strict=True)
            ]
            self._shown = None
        return figures

    def collector_inputs(
        self, name: str, logits: Tensor, probabilities: Tensor, labels: Tensor, batch: Any
    ) -> tuple[Tensor, ...]:
        """Return what a test batch adds to a collector; of texts their numbers are kept."""
        given = super().collector_inputs(name, logits, probabilities, labels, batch)
        return (*given, batch.index) if name == "wrong_texts" else given


def _embedding(net: nn.Module) -> TokenEmbedding | None:
    """Return the embedding of a net that learns its own, which given vectors can fill."""
    embedding = dict(net.named_children()).get("embedding")
    return embedding if isinstance(embedding, TokenEmbedding) else None
