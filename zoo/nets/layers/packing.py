"""Rows that hold several texts one after the other."""

from __future__ import annotations

import torch
from torch import Tensor


def packed_causal_mask(segment_ids: Tensor, shared_prefix_len: int = 0) -> Tensor:
    """Which tokens each token may look at: those before it in its own text, and itself.

    Args:
        segment_ids: Which text of its row each token belongs to, ``(B, T)``.
        shared_prefix_len: How many tokens at the start of each row belong to all its texts.

    Returns:
        True at those, ``(B, 1, T, T)``: batch, head, token, what it looks at.

    >>> packed_causal_mask(torch.tensor([[0, 0, 1]]))[0, 0].int()
    tensor([[1, 0, 0],
            [1, 1, 0],
            [0, 0, 1]], dtype=torch.int32)
    """
    own = segment_ids.unsqueeze(2) == segment_ids.unsqueeze(1)
    own[:, :, :shared_prefix_len] = True
    return own.tril().unsqueeze(1)


def packed_position_ids(segment_ids: Tensor) -> Tensor:
    """Place of each token in its own text, ``(B, T)``, from which text it belongs to.

    >>> packed_position_ids(torch.tensor([[0, 0, 0, 1, 1]]))
    tensor([[0, 1, 2, 0, 1]])
    """
    place = torch.arange(segment_ids.shape[1], device=segment_ids.device).expand_as(segment_ids)
    is_first = torch.ones_like(segment_ids, dtype=torch.bool)
    is_first[:, 1:] = segment_ids[:, 1:] != segment_ids[:, :-1]
    return place - place.masked_fill(~is_first, 0).cummax(dim=1).values
