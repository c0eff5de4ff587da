"""A decoder-only Transformer that predicts the next token, in today's layout and in GPT-2's."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from datamodules.core.errors import one_of, refuse
from zoo.nets.checks import check_positive, check_rate
from zoo.nets.layers.packing import packed_causal_mask

GPTLayout = Literal["modern", "gpt2", "llama"]
GPTNorm = Literal["rms", "layer"]
GPTPositions = Literal["rotary", "learned"]
GPTActivation = Literal["swiglu", "relu2", "gelu"]

_EPS = {"rms": 1e-6, "layer": 1e-5}  # Llama's and GPT-2's
_START_STD = 0.02


class _Parts(NamedTuple):
    """What a layout stands for."""

    norm: GPTNorm
    positions: GPTPositions
    activation: GPTActivation
    qk_norm: bool
    bias: bool
    tie_embeddings: bool


_LAYOUTS: dict[GPTLayout, _Parts] = {
    "modern": _Parts("rms", "rotary", "swiglu", qk_norm=True, bias=False, tie_embeddings=False),
    "llama": _Parts("rms", "rotary", "swiglu", qk_norm=False, bias=False, tie_embeddings=False),
    "gpt2": _Parts("layer", "learned", "gelu", qk_norm=False, bias=True, tie_embeddings=True),
}


class Cached(NamedTuple):
    """What a layer keeps of the tokens so far, ``(B, kv heads, T, head)`` each."""

    keys: Tensor
    values: Tensor


class Place(NamedTuple):
    """Where the tokens stand, for all layers alike.

    Attributes:
        rotation: Cosine and sine of each token's angles, ``(B or 1, 1, T, head / 2)`` each, with
            rotary positions.
        allowed: Which earlier tokens each may look at, ``(B or 1, 1, T, past + T)``; None where it
            is all of them.
        is_causal: Whether a token may look at no later one and nothing else is asked.
    """

    rotation: tuple[Tensor, Tensor] | None
    allowed: Tensor | None
    is_causal: bool


class CausalAttention(nn.Module):
    """Multi-head attention of each token to itself and the tokens before it.

    ``softmax(q k^T / sqrt(d)) v`` for each head of ``d`` features (arXiv 1706.03762). Several heads
    may share keys and values (grouped-query attention, arXiv 2305.13245). With ``qk_norm`` queries
    and keys have a root mean square of 1 before they are turned (arXiv 2302.05442; in the form of
    Qwen3, arXiv 2505.09388).

    Args:
        features: Features ``D``.
        num_heads: Heads of the queries.
        num_kv_heads: Heads of keys and values, a divisor of it.
        qk_norm: Whether queries and keys are normalised.
        bias: Whether the linear layers have a bias.
        dropout: Probability of dropping an attention weight.
    """

    def __init__(
        self,
        features: int,
        num_heads: int,
        num_kv_heads: int,
        *,
        qk_norm: bool,
        bias: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.num_heads, self.num_kv_heads = num_heads, num_kv_heads
        self.head_dim = features // num_heads
        self.dropout = dropout
        self.qkv = nn.Linear(features, (num_heads + 2 * num_kv_heads) * self.head_dim, bias=bias)
        self.q_norm = nn.RMSNorm(self.head_dim, eps=_EPS["rms"]) if qk_norm else None
        self.k_norm = nn.RMSNorm(self.head_dim, eps=_EPS["rms"]) if qk_norm else None
        self.out = nn.Linear(features, features, bias=bias)

    def forward(self, x: Tensor, place: Place, past: Cached | None) -> tuple[Tensor, Cached]:
        """Attend: ``(B, T, D)`` to the same, and what there is to remember."""
        # (B, heads, T, d), those of q, k and v behind one another
        heads = self.qkv(x).unflatten(2, (-1, self.head_dim)).transpose(1, 2)
        q, k, v = heads.split((self.num_heads, self.num_kv_heads, self.num_kv_heads), dim=1)
        if self.q_norm is not None and self.k_norm is not None:
            # in the weights' type, as the fused kernel wants it: half precision else leaves it
            q = self.q_norm(q.to(self.q_norm.weight.dtype))
            k = self.k_norm(k.to(self.k_norm.weight.dtype))
        if place.rotation is not None:
            q, k = rotate(q, *place.rotation), rotate(k, *place.rotation)
        if past is not None:
            k, v = torch.cat([past.keys, k], dim=2), torch.cat([past.values, v], dim=2)
        attended = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=place.allowed,
            is_causal=place.is_causal,
            dropout_p=self.dropout if self.training else 0.0,
            enable_gqa=self.num_kv_heads != self.num_heads,
        )
        return self.out(attended.transpose(1, 2).flatten(2)), Cached(k, v)


class FeedForward(nn.Module):
    """Two linear layers at each token, with one of three functions between them.

    gelu: ``W2 gelu(W1 x)`` with GPT-2's tanh form (arXiv 1606.08415); relu2: ``W2 max(0, W1 x)^2``
    (arXiv 2109.08668); swiglu: ``W2 (silu(Wg x) * Wu x)`` (arXiv 2002.05202), whose two first
    matrices are one here.

    Args:
        features: Features ``D``.
        hidden: Units between the two layers.
        activation: Which function.
        bias: Whether the linear layers have a bias.
    """

    def __init__(
        self, features: int, hidden: int, activation: GPTActivation, *, bias: bool
    ) -> None:
        super().__init__()
        self.activation = activation
        first = 2 * hidden if activation == "swiglu" else hidden
        self.first = nn.Linear(features, first, bias=bias)
        self.out = nn.Linear(hidden, features, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, T, D)`` to the same."""
        x = self.first(x)  # (B, T, hidden), with swiglu twice as many
        if self.activation == "swiglu":
            gate, up = x.chunk(2, dim=-1)
            x = F.silu(gate) * up
        elif self.activation == "relu2":
            x = F.relu(x).square()
        else:
            x = F.gelu(x, approximate="tanh")
        y: Tensor = self.out(x)
        return y


class Block(nn.Module):
    """One layer: ``x = x + attention(norm(x))``, then ``x = x + feedforward(norm(x))``."""

    def __init__(
        self,
        attention: CausalAttention,
        feedforward: FeedForward,
        norms: tuple[nn.Module, nn.Module],
        dropout: float,
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = norms
        self.attention = attention
        self.feedforward = feedforward
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, place: Place, past: Cached | None) -> tuple[Tensor, Cached]:
        """Map ``(B, T, D)`` to the same, and give what there is to remember."""
        attended, kept = self.attention(self.norm1(x), place, past)
        x = x + self.dropout(attended)
        return x + self.dropout(self.feedforward(self.norm2(x))), kept


class GPT(nn.Module, PyTorchModelHubMixin, pipeline_tag="text-generation"):
    """A decoder-only Transformer: token ids ``(B, T)`` to logits of the next ``(B, T, vocab)``.

    ``layout`` sets what the options below it leave open:

    ======== ===== ========= ========== ======= ====== ====
    layout   norm  positions activation qk_norm bias   tied
    ======== ===== ========= ========== ======= ====== ====
    modern   rms   rotary    swiglu     yes     no     no
    llama    rms   rotary    swiglu     no      no     no
    gpt2     layer learned   gelu       no      yes    yes
    ======== ===== ========= ========== ======= ====== ====

    Sources: GPT-2, Radford et al., "Language models are unsupervised multitask learners" (2019);
    Llama, Touvron et al., arXiv 2302.13971; rotary positions, Su et al., arXiv 2104.09864, with
    the features of a head paired as ``(i, i + d / 2)`` as Llama has them; RMS norm, Zhang &
    Sennrich, arXiv 1910.07467. With copied weights the numbers are those of transformers' GPT-2,
    Llama and Qwen3, to which :func:`~zoo.nets.pretrained.gpt_export.to_transformers` goes back.

    Start values: normal with deviation 0.02, biases zero. The last matrices of attention and
    feedforward are divided by ``sqrt(2 * num_layers)`` in layout gpt2, as published; in the other
    two they are zero, and so is an output layer of its own, so that each block starts as the
    identity and the loss at ``log(vocab_size)``.

    Args:
        vocab_size: Number of tokens.
        max_length: Tokens of the longest context; with rotary positions a longer one can be read,
            though nothing was learned of it.
        layout: ``modern``, ``llama`` or ``gpt2``.
        embedding_dim: Features ``D`` of a token throughout the net.
        num_layers: Blocks on top of each other.
        num_heads: Heads of the attention; they share the features, so it divides them.
        num_kv_heads: Heads of keys and values, fewer to save memory in generation; by default as
            many as of queries.
        feedforward_dim: Units between the two layers of the feedforward; by default four times the
            features, or with swiglu two thirds of that, rounded up to a multiple of 8.
        dropout: Probability of dropping a feature.
        attention_dropout: Probability of dropping an attention weight. Slow on a CPU, which has a
            fast kernel for none only.
        norm: ``rms`` or ``layer``.
        positions: ``rotary`` or ``learned``.
        activation: ``swiglu``, ``relu2`` or ``gelu``.
        qk_norm: Whether queries and keys are normalised.
        bias: Whether linear layers have a bias.
        tie_embeddings: Whether the output layer's matrix is that of the embedding.
        rotary_base: The base of rotary positions; a higher one tells places farther apart.

    Raises:
        ValueError: If an option's value does not fit.
    """

    #: Names of the modules that end in logits; all others are the backbone.
    head_names: ClassVar[tuple[str, ...]] = ("head",)

    def __init__(
        self,
        vocab_size: int,
        max_length: int = 256,
        *,
        layout: GPTLayout = "modern",
        embedding_dim: int = 384,
        num_layers: int = 6,
        num_heads: int = 6,
        num_kv_heads: int | None = None,
        feedforward_dim: int | None = None,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        norm: GPTNorm | None = None,
        positions: GPTPositions | None = None,
        activation: GPTActivation | None = None,
        qk_norm: bool | None = None,
        bias: bool | None = None,
        tie_embeddings: bool | None = None,
        rotary_base: float = 10_000.0,
    ) -> None:
        super().__init__()
        one_of("layout", layout, get_args(GPTLayout))
        given = {
            "norm": norm,
            "positions": positions,
            "activation": activation,
            "qk_norm": qk_norm,
            "bias": bias,
            "tie_embeddings": tie_embeddings,
        }
        chosen: dict[str, Any] = {k: value for k, value in given.items() if value is not None}
        parts = _LAYOUTS[layout]._replace(**chosen)
        one_of("norm", parts.norm, get_args(GPTNorm))
        one_of("positions", parts.positions, get_args(GPTPositions))
        one_of("activation", parts.activation, get_args(GPTActivation))
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        if feedforward_dim is None:
            feedforward_dim = 4 * embedding_dim
            if parts.activation == "swiglu":
                feedforward_dim = math.ceil(feedforward_dim * 2 / 3 / 8) * 8
        check_positive(
            vocab_size=vocab_size,
            max_length=max_length,
            embedding_dim=embedding_dim,
            num_layers=num_layers,
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            feedforward_dim=feedforward_dim,
        )
        check_rate("dropout", dropout)
        check_rate("attention_dropout", attention_dropout)
        _check_heads(embedding_dim, num_heads, num_kv_heads, parts.positions)

        self.vocab_size, self.max_length = vocab_size, max_length
        self.parts = parts
        self.rotary_base = rotary_base
        self.head_dim = embedding_dim // num_heads
        self.embedding = nn.Embedding(vocab_size, embedding_dim)
        self.position: nn.Embedding | None = None
        if parts.positions == "learned":
            self.position = nn.Embedding(max_length, embedding_dim)
        self.dropout = nn.Dropout(dropout)

        def make_norm() -> nn.Module:
            if parts.norm == "rms":
                return nn.RMSNorm(embedding_dim, eps=_EPS["rms"])
            return nn.LayerNorm(embedding_dim, eps=_EPS["layer"], bias=parts.bias)

        self.blocks = nn.ModuleList(
            Block(
                CausalAttention(
                    embedding_dim,
                    num_heads,
                    num_kv_heads,
                    qk_norm=parts.qk_norm,
                    bias=parts.bias,
                    dropout=attention_dropout,
                ),
                FeedForward(embedding_dim, feedforward_dim, parts.activation, bias=parts.bias),
                (make_norm(), make_norm()),
                dropout,
            )
            for _ in range(num_layers)
        )
        self.norm = make_norm()
        self.head = nn.Linear(embedding_dim, vocab_size, bias=False)
        if parts.tie_embeddings:
            self.head.weight = self.embedding.weight
        self._start(layout)

    def _start(self, layout: GPTLayout) -> None:
        """Draw the start values that the class describes."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=_START_STD)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        scale = 1 / math.sqrt(2 * len(self.blocks)) if layout == "gpt2" else 0.0
        lasts = [m.out for m in self.modules() if isinstance(m, CausalAttention | FeedForward)]
        if not self.parts.tie_embeddings:
            nn.init.zeros_(self.head.weight)
        with torch.no_grad():
            for last in lasts:
                last.weight.mul_(scale)

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

        Padding may only stand behind the tokens that matter, which do not look ahead.

        Args:
            tokens: Token ids ``(B, T)``.
            position_ids: Place of each token in its own text, ``(B, T)``; by default 0, 1, 2 ...
            segment_ids: Which text of its row each token belongs to, ``(B, T)``, where a row holds
                several: a token then looks at those of its own text alone.
            shared_prefix_len: How many tokens at the start of each row all its texts begin with,
                which stand there once. ``position_ids`` are then needed, too.

        Returns:
            Features ``(B, T, D)``.

        Raises:
            ValueError: If a row is longer than learned positions reach.
        """
        allowed = None
        if segment_ids is not None:
            allowed = packed_causal_mask(segment_ids, shared_prefix_len)
        place = self._place(tokens, 0, position_ids, allowed)
        x, _ = self._run(tokens, place, position_ids, 0, None)
        return x

    @torch.no_grad()
    def step(
        self, tokens: Tensor, state: list[Cached] | None = None
    ) -> tuple[Tensor, list[Cached]]:
        """Logits of the next token, with what is remembered of those before.

        Args:
            tokens: The next token ids ``(B, T)``, one or several.
            state: What the step before gave; None at the start.

        Returns:
            Logits ``(B, vocab)`` behind the last token, and the state for the next step.

        Raises:
            ValueError: If learned positions end before the last token.
        """
        past = 0 if state is None else state[0].keys.shape[2]
        allowed = None
        # In a graph that is exported one form serves all: it has no branches.
        if torch.compiler.is_exporting() or (past and tokens.shape[1] > 1):
            shape = tokens.shape[1], past + tokens.shape[1]
            ones = torch.ones(shape, dtype=torch.bool, device=tokens.device)
            allowed = ones.tril(past)[None, None]
        place = self._place(tokens, past, None, allowed)
        x, kept = self._run(tokens, place, None, past, state)
        return self.head(x[:, -1]), kept

    def _place(
        self, tokens: Tensor, past: int, position_ids: Tensor | None, allowed: Tensor | None
    ) -> Place:
        rotation = None
        if self.position is None:
            if position_ids is None:
                position_ids = self._range(tokens, past)
            steps = torch.arange(0, self.head_dim, 2, device=tokens.device, dtype=torch.float32)
            speeds = self.rotary_base ** (-steps / self.head_dim)
            # (B or 1, 1, T, d / 2)
            angles = (position_ids.float().unsqueeze(-1) * speeds).unsqueeze(1)
            dtype = self.embedding.weight.dtype
            rotation = angles.cos().to(dtype), angles.sin().to(dtype)
        is_causal = allowed is None and not (past > 0 and tokens.shape[1] == 1)
        return Place(rotation, allowed, is_causal=is_causal)

    def _run(
        self,
        tokens: Tensor,
        place: Place,
        position_ids: Tensor | None,
        past: int,
        state: list[Cached] | None,
    ) -> tuple[Tensor, list[Cached]]:
        x: Tensor = self.embedding(tokens)  # (B, T, D)
        if self.position is not None:
            length = None if torch.compiler.is_exporting() else past + tokens.shape[1]
            if length is not None and length > self.max_length and position_ids is None:
                raise refuse(
                    "max_length",
                    self.max_length,
                    f"the learned positions end there, before {length} tokens; "
                    "shorten the text, or choose positions 'rotary'",
                )
            x = x + self.position(
                self._range(tokens, past) if position_ids is None else position_ids
            )
        x = self.dropout(x)
        kept = []
        for number, block in enumerate(self.blocks):
            x, cached = block(x, place, None if state is None else state[number])
            kept.append(cached)
        return self.norm(x), kept

    @staticmethod
    def _range(tokens: Tensor, past: int) -> Tensor:
        return torch.arange(past, past + tokens.shape[1], device=tokens.device).unsqueeze(0)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs ``(i, i + d / 2)`` of the features of ``(B, heads, T, d)`` by angles."""
    first, second = x.chunk(2, dim=-1)  # (B, heads, T, d / 2) each
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def _check_heads(
    embedding_dim: int, num_heads: int, num_kv_heads: int, positions: GPTPositions
) -> None:
    if embedding_dim % num_heads:
        raise refuse(
            "num_heads",
            num_heads,
            f"it does not divide embedding_dim, {embedding_dim}; choose a divisor",
        )
    if num_heads % num_kv_heads:
        raise refuse(
            "num_kv_heads",
            num_kv_heads,
            f"it does not divide num_heads, {num_heads}; choose a divisor",
        )
    if positions == "rotary" and (embedding_dim // num_heads) % 2:
        raise refuse(
            "num_heads",
            num_heads,
            "positions 'rotary' turns pairs of features, and this leaves "
            f"{embedding_dim // num_heads} of embedding_dim {embedding_dim} to a head; choose an "
            "even number a head",
        )
