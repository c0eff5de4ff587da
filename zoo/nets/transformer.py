"""The Transformer's encoder as a text classifier, in the forms that people compare."""

import math
from typing import ClassVar, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from datamodules.core.errors import one_of, refuse
from zoo.nets.checks import check_positive, check_rate, check_text_counts
from zoo.nets.layers.activations import ActivationName, make_activation
from zoo.nets.layers.embeddings import TokenEmbedding
from zoo.nets.layers.norms import make_norm
from zoo.nets.layers.pooling import Pooling, Texts, cut_padding, prepare_texts

TextNormName = Literal["layer", "rms", "batch"]
PositionsName = Literal["learned", "sinusoidal", "rotary"]
TransformerPooling = Literal["mean", "cls", "attention", "max"]

_ROTARY_BASE = 10_000.0
_SINUSOIDAL_BASE = 10_000.0
_START_STD = 0.02  # BERT's and GPT-2's, for vectors of tokens and of learned positions


class Rotation(NamedTuple):
    """Cosine and sine of each position's angles, ``(T, D / 2)`` each."""

    cos: Tensor
    sin: Tensor


class MaskedBatchNorm(nn.Module):
    """Batch normalisation of tokens' features, over real tokens only.

    ``y = (x - mean) / sqrt(var + eps) * weight + bias`` for each feature, with mean and variance
    over all tokens of all texts in the batch while training, and running averages in evaluation.
    Padding is left out of both, so the amount of padding changes nothing. The other texts of the
    batch do change a text's features while training, which no other norm here does; Shen et al.,
    arXiv 2003.07845, show what that costs on texts.

    Source: Ioffe & Szegedy, arXiv 1502.03167; momentum, eps and the unbiased variance of the
    running average are torch's. Statistics are in float32 at least. A batch of a single token,
    where torch raises, has a variance of zero and becomes the bias.

    Args:
        num_features: Features ``D``.
        eps: Added to the variance.
        momentum: Share of the newest batch in the running averages.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Normalise.

        Args:
            x: Features ``(B, T, D)``.
            mask: True at the tokens of a text, ``(B, T)``.

        Returns:
            Features ``(B, T, D)``.
        """
        mean, var = self._statistics(x, mask) if self.training else self._running()
        scale = torch.rsqrt(var + self.eps) * self.weight
        # Not x * scale + (bias - mean * scale), which cancels where the variance is small.
        return (x - mean.to(x.dtype)) * scale.to(x.dtype) + self.bias.to(x.dtype)

    def _running(self) -> tuple[Tensor, Tensor]:
        return self.running_mean, self.running_var

    def _statistics(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and biased variance of the batch, which the running averages take in."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))  # (B, T, D)
        padding = ~mask.unsqueeze(2)
        count = mask.sum()
        mean = wide.masked_fill(padding, 0.0).sum(dim=(0, 1)) / count  # (D,)
        var = (wide - mean).masked_fill(padding, 0.0).square().sum(dim=(0, 1)) / count
        with torch.no_grad():
            unbiased = var * (count / (count - 1).clamp(min=1))
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)
        return mean, var

    def extra_repr(self) -> str:
        """Return the arguments, for ``print``."""
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"


class SelfAttention(nn.Module):
    """Multi-head self-attention over the tokens of a text: ``(B, T, D)`` to the same shape.

    ``softmax(q k^T / sqrt(D / heads)) v`` for each head, padding left out of the softmax.

    Source: Vaswani et al., arXiv 1706.03762, section 3.2. With rotary positions (Su et al., arXiv
    2104.09864) the neighbouring features ``(2i, 2i + 1)`` of queries and keys are turned by the
    angle ``t / 10000^(2i / d)`` at position t, so that a score depends on the distance alone.

    Args:
        features: Features ``D``.
        num_heads: Heads, a divisor of ``D``.
        dropout: Probability of dropping an attention weight.
    """

    def __init__(self, features: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.in_proj = nn.Linear(features, 3 * features)
        self.out_proj = nn.Linear(features, features)

    def forward(self, x: Tensor, mask: Tensor, rotation: Rotation | None) -> Tensor:
        """Attend.

        Args:
            x: Features ``(B, T, D)``.
            mask: True at the tokens of a text, ``(B, T)``; at least one in each row.
            rotation: The angles of rotary positions, if those are used.

        Returns:
            Features ``(B, T, D)``.
        """
        heads = self.in_proj(x).unflatten(2, (3, self.num_heads, -1))  # (B, T, 3, heads, D / heads)
        q, k, v = heads.permute(2, 0, 3, 1, 4).unbind(0)  # (B, heads, T, D / heads) each
        if rotation is not None:
            q, k = _rotate(q, rotation), _rotate(k, rotation)
        attended = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask[:, None, None, :],
            dropout_p=self.dropout if self.training else 0.0,
        )
        y: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return y


class TransformerLayer(nn.Module):
    """One layer of the encoder: self-attention, then two linear layers at each token.

    Post-norm, as published, is ``x = norm(x + f(x))`` for both parts; pre-norm is
    ``x = x + f(norm(x))``.

    Source: Vaswani et al., arXiv 1706.03762; pre-norm, Xiong et al., arXiv 2002.04745. Dropout is
    where ``nn.TransformerEncoderLayer`` has it: on attention weights, inside the second part, and
    on what each part gives. The paper has the last of these only. That on attention weights has a
    probability of its own, since without it the CPU has a kernel that never builds the weights.

    Args:
        features: Features ``D``.
        num_heads: Heads of the attention.
        feedforward_dim: Units of the hidden layer of the second part.
        dropout: Probability of dropping a feature, inside the second part and after both.
        attention_dropout: Probability of dropping an attention weight.
        pre_norm: Whether norms come before the two parts or after.
        norm: Which norm.
        activation: What follows the hidden layer.
    """

    def __init__(
        self,
        features: int,
        num_heads: int,
        feedforward_dim: int,
        *,
        dropout: float,
        attention_dropout: float,
        pre_norm: bool,
        norm: TextNormName,
        activation: ActivationName,
    ) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        self.attention = SelfAttention(features, num_heads, attention_dropout)
        self.feedforward = nn.Sequential(
            nn.Linear(features, feedforward_dim),
            make_activation(activation),
            nn.Dropout(dropout),
            nn.Linear(feedforward_dim, features),
        )
        self.norm1 = _make_text_norm(norm, features)
        self.norm2 = _make_text_norm(norm, features)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor, rotation: Rotation | None) -> Tensor:
        """Map ``(B, T, D)`` to ``(B, T, D)``; see ``SelfAttention``."""
        if self.pre_norm:
            attended = self.attention(_normalise(self.norm1, x, mask), mask, rotation)
            x = x + self.dropout(attended)
            y: Tensor = x + self.dropout(self.feedforward(_normalise(self.norm2, x, mask)))
            return y
        x = _normalise(self.norm1, x + self.dropout(self.attention(x, mask, rotation)), mask)
        return _normalise(self.norm2, x + self.dropout(self.feedforward(x)), mask)


class TransformerClassifier(nn.Module, PyTorchModelHubMixin, pipeline_tag="text-classification"):
    """A Transformer encoder with a pooling and a linear layer on top, for texts.

    Token ids ``(B, T)`` become logits ``(B, num_classes)``.

    Sources: Vaswani et al., "Attention is all you need", arXiv 1706.03762; pre-norm, Xiong et al.,
    arXiv 2002.04745; RMS norm, Zhang & Sennrich, arXiv 1910.07467; rotary positions, Su et al.,
    arXiv 2104.09864. Pre-norm has one more norm behind the last layer. The layers are those of
    ``nn.TransformerEncoder``, which gives the same numbers with the same weights.

    Positions: ``learned`` adds a vector a position (BERT's way), ``sinusoidal`` adds the paper's
    waves to vectors multiplied by ``sqrt(D)``, ``rotary`` turns queries and keys. ``cls`` pooling
    puts a learned vector before the text and reads what becomes of it (BERT, arXiv 1810.04805); no
    position is added to it.

    Start values: matrices Xavier's uniform ones, biases zero, vectors of tokens and positions
    normal with deviation 0.02, or with ``1 / sqrt(D)`` where they are multiplied.

    Args:
        vocab_size: Number of tokens.
        num_classes: Number of classes.
        pad_id: Id of the padding token.
        embedding_dim: Features ``D`` of a token throughout the net.
        num_heads: Heads of the attention; they share the features, so it divides them.
        num_layers: Layers on top of each other.
        feedforward_dim: Units of each layer's hidden layer; by default four times the features.
        dropout: Probability of dropping a feature, everywhere.
        attention_dropout: Probability of dropping an attention weight. Slow on a CPU, which has a
            fast kernel for none only.
        pre_norm: Whether norms come before attention and feedforward, which trains without a
            warm-up; otherwise behind, as in the paper.
        norm: ``layer``, ``rms``, or ``batch``, whose statistics are over all real tokens of a
            batch: for comparison, since a text's features then depend on the batch in training.
        positions: How the net knows the order.
        max_length: Tokens of the longest text that ``learned`` positions take; the others take any.
        activation: What follows the hidden layer of each layer.
        pooling: From tokens to the text: ``mean``, ``max``, ``cls``, or ``attention``, a learned
            weighted mean (arXiv 1703.03130).
        embedding_dropout: Probability of dropping a word from a text, wherever it stands in it
            (arXiv 1512.05287).
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
        embedding_dim: int = 128,
        num_heads: int = 4,
        num_layers: int = 2,
        feedforward_dim: int | None = None,
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
        pre_norm: bool = True,
        norm: TextNormName = "layer",
        positions: PositionsName = "learned",
        max_length: int = 512,
        activation: ActivationName = "gelu",
        pooling: TransformerPooling = "mean",
        embedding_dropout: float = 0.0,
        freeze_embeddings: bool = False,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        feedforward_dim = 4 * embedding_dim if feedforward_dim is None else feedforward_dim
        check_text_counts(vocab_size, num_classes, pad_id)
        one_of("norm", norm, get_args(TextNormName))
        one_of("positions", positions, get_args(PositionsName))
        one_of("pooling", pooling, get_args(TransformerPooling))
        check_positive(
            embedding_dim=embedding_dim,
            num_heads=num_heads,
            num_layers=num_layers,
            feedforward_dim=feedforward_dim,
            max_length=max_length,
        )
        check_rate("dropout", dropout)
        check_rate("attention_dropout", attention_dropout)
        _check_widths(embedding_dim, num_heads, positions)

        self.pad_id = pad_id
        self.positions = positions
        self.max_length = max_length
        self.scale = math.sqrt(embedding_dim) if positions == "sinusoidal" else 1.0
        self.embedding = TokenEmbedding(
            vocab_size,
            embedding_dim,
            pad_id=pad_id,
            word_dropout=embedding_dropout,
            std=1 / self.scale if positions == "sinusoidal" else _START_STD,
            freeze=freeze_embeddings,
        )
        self.position: nn.Parameter | None = None
        if positions == "learned":
            self.position = nn.Parameter(torch.randn(max_length, embedding_dim) * _START_STD)
        self.cls: nn.Parameter | None = None
        if pooling == "cls":
            self.cls = nn.Parameter(torch.randn(1, embedding_dim) * _START_STD)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            TransformerLayer(
                embedding_dim,
                num_heads,
                feedforward_dim,
                dropout=dropout,
                attention_dropout=attention_dropout,
                pre_norm=pre_norm,
                norm=norm,
                activation=activation,
            )
            for _ in range(num_layers)
        )
        self.norm = _make_text_norm(norm, embedding_dim) if pre_norm else None
        self.pool = Pooling(pooling, embedding_dim)
        self.fc = nn.Linear(embedding_dim, num_classes)
        self.head_dim = embedding_dim // num_heads
        for module in self.modules():
            if isinstance(module, nn.Linear):
                _init_linear(module)

    def forward(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Classify texts.

        Args:
            tokens: Token ids ``(B, T)``, padded on the right.
            lengths: Tokens of each text ``(B,)``; by default the count of those that are not
                padding.

        Returns:
            Logits ``(B, num_classes)``.

        Raises:
            ValueError: If a text is longer than the learned positions reach.
        """
        x, texts = self.features(self._prepare(tokens, lengths))
        pooled = self.pool(x, texts.lengths, texts.mask)  # (B, D)
        logits: Tensor = self.fc(self.dropout(pooled))
        return logits

    def embed(self, tokens: Tensor) -> Tensor:
        """Vectors of tokens, with their positions: ``(B, T)`` to ``(B, T, D)``."""
        x: Tensor = self.embedding(tokens) * self.scale  # (B, T, D)
        if self.position is not None:
            x = x + self.position[: tokens.shape[1]]
        elif self.positions == "sinusoidal":
            x = x + sinusoids(tokens.shape[1], x.shape[2], x.device).to(x.dtype)
        return x

    def features(self, texts: Texts) -> tuple[Tensor, Texts]:
        """Return what the encoder gives at each token, ``(B, T, D)``, and where texts end in it.

        With ``cls`` pooling the texts are one longer, by the vector before their first token.
        """
        x = self.embed(texts.tokens)
        if self.cls is not None:
            batch = x.shape[0]
            x = torch.cat([self.cls.to(x.dtype).expand(batch, 1, -1), x], dim=1)  # (B, T + 1, D)
            ahead = texts.mask.new_ones(batch, 1)
            texts = Texts(texts.tokens, texts.lengths + 1, torch.cat([ahead, texts.mask], dim=1))
        x = self.dropout(x)
        rotation = None
        if self.positions == "rotary":
            angles = _angles(x.shape[1], self.head_dim, _ROTARY_BASE, x.device)
            rotation = Rotation(angles.cos(), angles.sin())
        for layer in self.layers:
            x = layer(x, texts.mask, rotation)
        if self.norm is not None:
            x = _normalise(self.norm, x, texts.mask)
        return x, texts

    @torch.no_grad()
    def attention_weights(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the share of each token in ``attention`` pooling.

        Args:
            tokens: Token ids ``(B, T)``, padded on the right.
            lengths: Tokens of each text ``(B,)``; by default those that are not padding.

        Returns:
            Shares ``(B, T)``: zero at padding, with a sum of 1 for each text.

        Raises:
            ValueError: If the net pools otherwise, or a text is too long.
        """
        x, texts = self.features(self._prepare(tokens, lengths))
        weights = self.pool.weights(x, texts.mask)  # (B, T)
        return F.pad(weights, (0, max(0, tokens.shape[1] - weights.shape[1])))

    def _prepare(self, tokens: Tensor, lengths: Tensor | None) -> Texts:
        """``prepare_texts``, cut to the learned positions where only padding goes beyond them.

        Raises:
            ValueError: If a text goes beyond them.
        """
        texts = prepare_texts(tokens, lengths, self.pad_id)
        if self.position is None:
            return texts
        return cut_padding(
            texts,
            self.max_length,
            reason=f"the learned positions end at max_length={self.max_length}",
            advice="raise the net's max_length, lower that of the data, or choose positions "
            "'sinusoidal' or 'rotary'",
        )


def sinusoids(length: int, features: int, device: torch.device | None = None) -> Tensor:
    """Sinusoidal positions, ``(T, D)``.

    ``p[t, 2i] = sin(t / 10000^(2i / D))`` and ``p[t, 2i + 1]`` its cosine; arXiv 1706.03762,
    section 3.5.

    Args:
        length: Positions ``T``.
        features: Features ``D``, an even number.
        device: Where to make them.
    """
    angles = _angles(length, features, _SINUSOIDAL_BASE, device)
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


def _angles(length: int, features: int, base: float, device: torch.device | None) -> Tensor:
    """``t / base^(2i / D)``, ``(T, D / 2)``, in float32."""
    pairs = torch.arange(0, features, 2, device=device, dtype=torch.float32)
    steps = torch.arange(length, device=device, dtype=torch.float32)
    return torch.outer(steps, base ** (-pairs / features))


def _rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn neighbouring features of ``(B, heads, T, D)`` by the angles of their position."""
    even, odd = x[..., 0::2], x[..., 1::2]  # (B, heads, T, D / 2) each
    cos, sin = rotation
    turned = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1)
    return turned.flatten(-2).to(x.dtype)


def _make_text_norm(norm: TextNormName, features: int) -> nn.Module:
    return MaskedBatchNorm(features) if norm == "batch" else make_norm(norm, features, ndim=2)


def _normalise(norm: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    """Apply a norm to tokens; batch norm alone has to know which are real."""
    y: Tensor = norm(x, mask) if isinstance(norm, MaskedBatchNorm) else norm(x)
    return y


def _init_linear(linear: nn.Linear) -> None:
    """Draw the start values that the class describes."""
    # Queries, keys and values are three matrices in one.
    parts = 3 if linear.out_features == 3 * linear.in_features else 1
    for matrix in linear.weight.detach().chunk(parts):
        nn.init.xavier_uniform_(matrix)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)


def _check_widths(embedding_dim: int, num_heads: int, positions: PositionsName) -> None:
    if embedding_dim % num_heads:
        raise refuse(
            "num_heads",
            num_heads,
            f"it does not divide embedding_dim, {embedding_dim}; choose a divisor",
        )
    if positions == "rotary" and (embedding_dim // num_heads) % 2:
        raise refuse(
            "num_heads",
            num_heads,
            "positions 'rotary' turns pairs of features, and this leaves "
            f"{embedding_dim // num_heads} of embedding_dim {embedding_dim} to a head; choose an "
            "even number a head",
        )
    if positions == "sinusoidal" and embedding_dim % 2:
        raise refuse(
            "embedding_dim",
            embedding_dim,
            "positions 'sinusoidal' has pairs of sine and cosine; give an even number",
        )
