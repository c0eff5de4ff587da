"""Recurrent language models: LSTM and GRU that predict the next token."""

from itertools import pairwise
from typing import Any, ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.func import functional_call

from datamodules.core.errors import one_of
from zoo.nets.checks import check_positive, check_rate

LMCellName = Literal["lstm", "gru"]

#: Of each layer the tensors ``(1, B, H)`` that it goes on from: two for an LSTM, one for a GRU.
State = list[Tensor]

_START_RANGE = 0.1


class RNNLanguageModel(nn.Module, PyTorchModelHubMixin, pipeline_tag="text-generation"):
    """A recurrent language model: token ids ``(B, T)`` to logits of the next ``(B, T, vocab)``.

    The cells are torch's LSTM (Hochreiter & Schmidhuber, 1997) or GRU (Cho et al., arXiv
    1406.1078). Regularisation is that of AWD-LSTM (Merity et al., arXiv 1708.02182): a mask that is
    drawn once for each text and kept over its tokens (variational dropout, arXiv 1512.05287) on
    embeddings, between layers and on what the last one gives; embedding dropout, which takes whole
    words out of the vocabulary for a batch; and DropConnect on the recurrent matrices. The
    embedding may serve as the output layer, too (arXiv 1608.05859, 1611.01462).

    Start values: embeddings uniform in ±0.1, as published, the rest torch's. Deviation: the layers
    have a width each (``hidden_size``, the last one ``embedding_dim`` where the matrix is shared).

    Args:
        vocab_size: Number of tokens.
        cell: ``lstm`` or ``gru``.
        embedding_dim: Length of a token's vector.
        hidden_size: Features of a layer.
        num_layers: Layers on top of each other.
        tie_embeddings: Whether the output layer's matrix is that of the embedding.
        dropout: Probability of dropping a feature between layers and behind the last.
        input_dropout: Of an embedding's feature; by default as ``dropout``.
        embedding_dropout: Of a whole word, wherever it stands in the batch.
        weight_dropout: Of a weight of the recurrent matrices.

    Raises:
        ValueError: If an option's value does not fit.
    """

    #: Names of the modules that end in logits; all others are the backbone.
    head_names: ClassVar[tuple[str, ...]] = ("head",)

    #: It reads texts of any length.
    max_length: int | None = None

    def __init__(
        self,
        vocab_size: int,
        *,
        cell: LMCellName = "lstm",
        embedding_dim: int = 256,
        hidden_size: int = 512,
        num_layers: int = 2,
        tie_embeddings: bool = True,
        dropout: float = 0.0,
        input_dropout: float | None = None,
        embedding_dropout: float = 0.0,
        weight_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        one_of("cell", cell, get_args(LMCellName))
        check_positive(
            vocab_size=vocab_size,
            embedding_dim=embedding_dim,
            hidden_size=hidden_size,
            num_layers=num_layers,
        )
        input_dropout = dropout if input_dropout is None else input_dropout
        for name, rate in (
            ("dropout", dropout),
            ("input_dropout", input_dropout),
            ("embedding_dropout", embedding_dropout),
            ("weight_dropout", weight_dropout),
        ):
            check_rate(name, rate)
        self.vocab_size = vocab_size
        self.dropout, self.input_dropout = dropout, input_dropout
        self.embedding_dropout, self.weight_dropout = embedding_dropout, weight_dropout
        self.embedding = nn.Embedding(vocab_size, embedding_dim)
        nn.init.uniform_(self.embedding.weight, -_START_RANGE, _START_RANGE)
        last = embedding_dim if tie_embeddings else hidden_size
        widths = [embedding_dim, *[hidden_size] * (num_layers - 1), last]
        make_cell = nn.LSTM if cell == "lstm" else nn.GRU
        self.layers = nn.ModuleList(
            make_cell(before, width, batch_first=True) for before, width in pairwise(widths)
        )
        self.head = nn.Linear(last, vocab_size)
        nn.init.zeros_(self.head.bias)
        if tie_embeddings:
            self.head.weight = self.embedding.weight
        else:
            nn.init.uniform_(self.head.weight, -_START_RANGE, _START_RANGE)

    @property
    def output_layer(self) -> nn.Linear:
        """The layer that makes logits of :meth:`features`."""
        return self.head

    def forward(
        self,
        tokens: Tensor,
        position_ids: Tensor | None = None,
        segment_ids: Tensor | None = None,
        shared_prefix_len: int = 0,
    ) -> Tensor:
        """Logits ``(B, T, vocab)`` of what follows each token; see :meth:`features`."""
        logits: Tensor = self.head(
            self.features(tokens, position_ids, segment_ids, shared_prefix_len)
        )
        return logits

    def features(
        self,
        tokens: Tensor,
        position_ids: Tensor | None = None,
        segment_ids: Tensor | None = None,
        shared_prefix_len: int = 0,
    ) -> Tensor:
        """Return what the output layer makes logits of.

        Args:
            tokens: Token ids ``(B, T)``; padding may only stand behind those that matter.
            position_ids: Not used: the order is in the recurrence.
            segment_ids: Not possible: the recurrence would run from one text into the next.
            shared_prefix_len: Not possible without them.

        Returns:
            Features ``(B, T, D)``.

        Raises:
            ValueError: If rows hold several texts.
        """
        if segment_ids is not None:
            raise ValueError(
                "a recurrent net cannot keep the texts of one row apart; "
                "set respect_documents: false, or packing: false, for its data"
            )
        return self._run(tokens, None)[0]

    def carry(self, tokens: Tensor, state: State | None) -> tuple[Tensor, State]:
        """:meth:`features` from a state on, and the state behind, which has no gradient.

        Args:
            tokens: Token ids ``(B, T)``, which follow those that led to the state.
            state: What it gave before; None at the start. Rows that have ended are the last ones.
        """
        if state is not None:
            state = [part[:, : len(tokens)].contiguous() for part in state]
        features, state = self._run(tokens, state)
        return features, [part.detach() for part in state]

    @torch.no_grad()
    def step(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Logits of the next token, with what is remembered of those before.

        Args:
            tokens: The next token ids ``(B, T)``, one or several.
            state: What the step before gave; None at the start.

        Returns:
            Logits ``(B, vocab)`` behind the last token, and the state for the next step.
        """
        features, state = self._run(tokens, state)
        return self.head(features[:, -1]), state

    def _run(self, tokens: Tensor, state: State | None) -> tuple[Tensor, State]:
        x = self._look_up(tokens)  # (B, T, D)
        x = self._drop(x, self.input_dropout)
        size = 2 if isinstance(self.layers[0], nn.LSTM) else 1
        kept: State = []
        for number, layer in enumerate(self.layers):
            start: Any = None
            if state is not None:
                start = tuple(state[number * size : (number + 1) * size])
            if size == 1 and start is not None:  # a GRU takes and gives a bare tensor
                start = start[0]
            x, end = functional_call(layer, self._weights(layer), (x, start))  # (B, T, H)
            kept += [end] if size == 1 else end
            x = self._drop(x, self.dropout)
        return x, kept

    def _look_up(self, tokens: Tensor) -> Tensor:
        weight = self.embedding.weight  # (vocab, D)
        if self.training and self.embedding_dropout > 0:
            weight = weight * F.dropout(weight.new_ones(len(weight), 1), self.embedding_dropout)
        return F.embedding(tokens, weight)

    def _drop(self, x: Tensor, rate: float) -> Tensor:
        """Variational dropout: one mask for all tokens of a text, ``(B, 1, D)``."""
        if not self.training or rate == 0:
            return x
        return x * F.dropout(x.new_ones(len(x), 1, x.shape[2]), rate)

    def _weights(self, layer: nn.Module) -> dict[str, Tensor]:
        """Return the layer's recurrent matrix with some weights dropped; nothing where none are."""
        if not self.training or self.weight_dropout == 0:
            return {}
        weight = layer.weight_hh_l0
        assert isinstance(weight, Tensor)
        return {"weight_hh_l0": F.dropout(weight, self.weight_dropout)}
