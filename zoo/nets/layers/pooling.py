"""Padding and pooling, shared by all nets for texts.

A batch of texts is a table ``(B, T)`` of token ids, padded on the right. What a net makes of a text
must not depend on what it was padded with, nor how far; so each net starts with ``prepare_texts``
and reads positions through the mask that it gives.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from datamodules.core.errors import refuse

PoolingName = Literal["last", "cls", "mean", "max", "attention"]


class Texts(NamedTuple):
    """A batch of texts, and where they end.

    Attributes:
        tokens: Token ids ``(B, T)``, int64; ``pad_id`` from each text's end on.
        lengths: Tokens of each text ``(B,)``, int64, from 1 to T.
        mask: True at the tokens of a text, ``(B, T)``.
    """

    tokens: Tensor
    lengths: Tensor
    mask: Tensor


def prepare_texts(tokens: Tensor, lengths: Tensor | None, pad_id: int) -> Texts:
    """Find where texts end, and overwrite whatever is behind it with padding.

    A text without any token counts as one padding token, so that there is something to pool.

    Args:
        tokens: Token ids ``(B, T)``, padded on the right.
        lengths: Tokens of each text ``(B,)``; by default the count of those that are not padding.
        pad_id: Id of the padding token.

    Returns:
        The texts; T is at least 1.

    Raises:
        ValueError: If ``tokens`` has not two dimensions.

    >>> prepare_texts(torch.tensor([[5, 6, 7], [8, 0, 0]]), None, pad_id=0).lengths
    tensor([3, 1])
    """
    if tokens.dim() != 2:
        raise ValueError(
            f"tokens of shape {tuple(tokens.shape)} must have two dimensions (B, T), one row of "
            "token ids for each text"
        )
    if tokens.shape[1] == 0:
        tokens = tokens.new_full((tokens.shape[0], 1), pad_id)
    if lengths is None:
        lengths = (tokens != pad_id).sum(dim=1)
    steps = torch.arange(tokens.shape[1], device=tokens.device)  # (T,)
    tokens = tokens.masked_fill(steps >= lengths.unsqueeze(1), pad_id)
    lengths = lengths.long().clamp(1, tokens.shape[1])
    return Texts(tokens, lengths, steps < lengths.unsqueeze(1))


def cut_padding(texts: Texts, limit: int, *, reason: str, advice: str) -> Texts:
    """Cut a batch to a net's positions, where nothing but padding goes beyond them.

    Args:
        texts: The texts.
        limit: Tokens of the longest text that the net takes.
        reason: For the refusal: why not more.
        advice: And what would do.

    Returns:
        The texts, with T no more than the limit.

    Raises:
        ValueError: If a text goes beyond the limit.
    """
    if texts.tokens.shape[1] <= limit:
        return texts
    longest = int(texts.lengths.max())
    if longest > limit:
        raise ValueError(f"a text has {longest} tokens and {reason}; {advice}")
    return Texts(texts.tokens[:, :limit], texts.lengths, texts.mask[:, :limit])


def take_last(x: Tensor, lengths: Tensor) -> Tensor:
    """Return the features at each text's last token: ``(B, T, D)`` to ``(B, D)``.

    >>> take_last(torch.tensor([[[1.0], [2.0], [3.0]]]), lengths=torch.tensor([2]))
    tensor([[2.]])
    """
    index = (lengths - 1).view(-1, 1, 1).expand(-1, 1, x.shape[2])  # (B, 1, D)
    return x.gather(1, index).squeeze(1)


class Pooling(nn.Module):
    """From the features of a text's tokens to those of the text: ``(B, T, D)`` to ``(B, D)``.

    ``last`` takes the last token and ``cls`` the first; ``mean`` and ``max`` go over all tokens of
    the text, feature by feature; ``attention`` is a weighted mean with

    ``a_t = softmax_t(w2 . tanh(W1 x_t))``

    Source of the latter: Lin et al., "A structured self-attentive sentence embedding", arXiv
    1703.03130, with one row of attention where they have several.

    Args:
        kind: Which pooling.
        features: Features ``D``; also the rows of ``W1``, which the paper leaves free.
    """

    def __init__(self, kind: PoolingName, features: int) -> None:
        super().__init__()
        self.kind = kind
        self.score: nn.Sequential | None = None
        if kind == "attention":
            self.score = nn.Sequential(
                nn.Linear(features, features, bias=False),
                nn.Tanh(),
                nn.Linear(features, 1, bias=False),
            )

    def forward(self, x: Tensor, lengths: Tensor, mask: Tensor) -> Tensor:
        """Pool texts.

        Args:
            x: Features ``(B, T, D)``.
            lengths: Tokens of each text ``(B,)``, at least 1.
            mask: True at the tokens of a text, ``(B, T)``.

        Returns:
            Features ``(B, D)``.
        """
        match self.kind:
            case "last":
                return take_last(x, lengths)
            case "cls":
                return x[:, 0]
            case "mean":
                return x.masked_fill(~mask.unsqueeze(2), 0.0).sum(dim=1) / lengths.unsqueeze(1)
            case "max":
                return x.masked_fill(~mask.unsqueeze(2), -torch.inf).amax(dim=1)
            case "attention":
                weights = self.weights(x, mask).to(x.dtype)  # (B, T)
                return torch.bmm(weights.unsqueeze(1), x).squeeze(1)

    def weights(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return the share of each token in ``attention`` pooling.

        Args:
            x: Features ``(B, T, D)``.
            mask: True at the tokens of a text, ``(B, T)``.

        Returns:
            Shares ``(B, T)``: zero at padding, with a sum of 1 in each row.

        Raises:
            ValueError: If the pooling is another one, which has no weights.
        """
        if self.score is None:
            raise refuse("pooling", self.kind, "it has no weights to show; choose 'attention'")
        scores: Tensor = self.score(x).squeeze(2)  # (B, T)
        return scores.masked_fill(~mask, -torch.inf).softmax(dim=1)
