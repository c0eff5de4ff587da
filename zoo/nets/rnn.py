"""Recurrent nets for texts: LSTM, GRU and plain RNN."""

from typing import ClassVar, Literal, get_args

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from datamodules.core.errors import one_of
from zoo.nets.checks import check_positive, check_rate, check_text_counts
from zoo.nets.layers.embeddings import TokenEmbedding
from zoo.nets.layers.pooling import Pooling, Texts, prepare_texts, take_last

CellName = Literal["lstm", "gru", "rnn"]
RNNPooling = Literal["last", "mean", "max", "attention"]

_CELLS: dict[CellName, type[nn.LSTM] | type[nn.GRU] | type[nn.RNN]] = {
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "rnn": nn.RNN,
}


class RNNClassifier(nn.Module, PyTorchModelHubMixin, pipeline_tag="text-classification"):
    """A recurrent text classifier: embeddings, recurrent layers, a pooling, a linear layer.

    Token ids ``(B, T)`` become logits ``(B, num_classes)``.

    Sources: LSTM, Hochreiter & Schmidhuber, "Long short-term memory", Neural Computation 9 (1997),
    with the forget gate of Gers et al. (2000); GRU, Cho et al., arXiv 1406.1078; both directions,
    Schuster & Paliwal, "Bidirectional recurrent neural networks" (1997). The cells are torch's,
    whose plain RNN is Elman's with tanh.

    The backward layers run forward over each text in reverse (a gather), and what they give is
    reversed again. So padding comes after the text for both directions and cannot reach it, and the
    numbers are those of torch's packed bidirectional layers. Unlike packed sequences it exports.

    Start values: recurrent matrices orthogonal, gate by gate (Saxe et al., arXiv 1312.6120), input
    matrices Xavier's, biases zero but for the LSTM's forget gate, where they sum to 1, so that a
    cell starts out remembering (Gers et al.; Jozefowicz et al., "An empirical exploration of
    recurrent network architectures", 2015).

    Args:
        vocab_size: Number of tokens.
        num_classes: Number of classes.
        pad_id: Id of the padding token.
        cell: ``lstm``, ``gru`` or the plain ``rnn``.
        embedding_dim: Length of a token's vector.
        hidden_size: Features of a layer in each direction.
        num_layers: Layers on top of each other.
        bidirectional: Whether each layer reads the text in both directions.
        dropout: Probability of dropping a feature between layers and before the last layer.
        embedding_dropout: Probability of dropping a word from a text, wherever it stands in it
            (arXiv 1512.05287).
        pooling: ``last`` takes what each direction has at its end, the backward one at the text's
            first token; ``mean`` and ``max`` go over all tokens; ``attention`` is a learned
            weighted mean (arXiv 1703.03130).
        freeze_embeddings: Whether the tokens' vectors are kept as they are; for those from a file.

    Raises:
        ValueError: If an option's value does not fit.
    """

    #: Names of the modules that end in logits; all others are the backbone.
    head_names: ClassVar[tuple[str, ...]] = ("fc",)

    def __init__(
        self,
        vocab_size: int,
        num_classes: int,
        *,
        pad_id: int = 0,
        cell: CellName = "lstm",
        embedding_dim: int = 128,
        hidden_size: int = 128,
        num_layers: int = 1,
        bidirectional: bool = True,
        dropout: float = 0.0,
        embedding_dropout: float = 0.0,
        pooling: RNNPooling = "last",
        freeze_embeddings: bool = False,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        check_text_counts(vocab_size, num_classes, pad_id)
        one_of("cell", cell, get_args(CellName))
        one_of("pooling", pooling, get_args(RNNPooling))
        check_positive(hidden_size=hidden_size, num_layers=num_layers)
        check_rate("dropout", dropout)

        self.pad_id = pad_id
        self.pooling = pooling
        self.bidirectional = bidirectional
        self.embedding = TokenEmbedding(
            vocab_size,
            embedding_dim,
            pad_id=pad_id,
            word_dropout=embedding_dropout,
            freeze=freeze_embeddings,
        )
        make_cell = _CELLS[cell]
        self.forward_layers = nn.ModuleList()
        self.backward_layers = nn.ModuleList()
        width = embedding_dim
        for _ in range(num_layers):
            self.forward_layers.append(make_cell(width, hidden_size, batch_first=True))
            if bidirectional:
                self.backward_layers.append(make_cell(width, hidden_size, batch_first=True))
            width = hidden_size * (2 if bidirectional else 1)
        self.pool = Pooling(pooling, width)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(width, num_classes)
        for layer in (*self.forward_layers, *self.backward_layers):
            _init_cell(layer)

    def forward(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Classify texts.

        Args:
            tokens: Token ids ``(B, T)``, padded on the right.
            lengths: Tokens of each text ``(B,)``; by default the count of those that are not
                padding.

        Returns:
            Logits ``(B, num_classes)``.
        """
        texts = prepare_texts(tokens, lengths, self.pad_id)
        x = self.features(texts)  # (B, T, D)
        if self.pooling == "last" and self.bidirectional:
            ahead, back = x.chunk(2, dim=2)  # (B, T, D / 2) each
            pooled = torch.cat([take_last(ahead, texts.lengths), back[:, 0]], dim=1)
        else:
            pooled = self.pool(x, texts.lengths, texts.mask)
        logits: Tensor = self.fc(self.dropout(pooled))
        return logits

    def features(self, texts: Texts) -> Tensor:
        """Return what the last recurrent layer gives at each token, ``(B, T, D)``.

        Forward half first.

        At padding it has numbers without a meaning.
        """
        x: Tensor = self.embedding(texts.tokens)  # (B, T, embedding_dim)
        steps = torch.arange(x.shape[1], device=x.device)
        # Reverses each text within its own length. It is its own inverse; behind a text's end it
        # repeats the first token, which nothing reads.
        mirror = (texts.lengths.unsqueeze(1) - 1 - steps).clamp(min=0)  # (B, T)
        for index, layer in enumerate(self.forward_layers):
            if index > 0:
                x = self.dropout(x)
            y, _ = layer(x)  # (B, T, H)
            if self.bidirectional:
                back, _ = self.backward_layers[index](_gather_steps(x, mirror))
                y = torch.cat([y, _gather_steps(back, mirror)], dim=2)  # (B, T, 2 H)
            x = y
        return x

    @torch.no_grad()
    def attention_weights(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the share of each token in ``attention`` pooling.

        Args:
            tokens: Token ids ``(B, T)``, padded on the right.
            lengths: Tokens of each text ``(B,)``; by default those that are not padding.

        Returns:
            Shares ``(B, T)``: zero at padding, with a sum of 1 for each text.

        Raises:
            ValueError: If the net pools otherwise.
        """
        texts = prepare_texts(tokens, lengths, self.pad_id)
        return self.pool.weights(self.features(texts), texts.mask)


def _gather_steps(x: Tensor, index: Tensor) -> Tensor:
    """Positions of ``x`` ``(B, T, D)`` in another order, that of ``index`` ``(B, T)``."""
    return x.gather(1, index.unsqueeze(2).expand(-1, -1, x.shape[2]))


def _init_cell(cell: nn.Module) -> None:
    """Draw the start values that the class describes."""
    assert isinstance(cell, nn.RNNBase)
    size = cell.hidden_size
    with torch.no_grad():
        for name, parameter in cell.named_parameters():
            if name.startswith("weight_hh"):
                for gate in parameter.chunk(len(parameter) // size):
                    nn.init.orthogonal_(gate)
            elif name.startswith("weight_ih"):
                for gate in parameter.chunk(len(parameter) // size):
                    nn.init.xavier_uniform_(gate)
            else:
                parameter.zero_()
                # torch adds two biases; gates are in the order input, forget, cell, output.
                if isinstance(cell, nn.LSTM) and name.startswith("bias_ih"):
                    parameter[size : 2 * size] = 1.0
