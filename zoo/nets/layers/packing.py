"""Rows that hold several texts one after the other."""

from __future__ import annotations

import torch
from torch import Tensor


def own_text(segments: Tensor, shared: int = 0) -> Tensor:
    """Which tokens each token may look at: those before it in its own text, and itself.

    Args:
        segments: Which text of its row each token belongs to, ``(B, T)``.
        shared: How many tokens at the start of each row belong to all its texts.

    Returns:
        True at those, ``(B, 1, T, T)``: batch, head, token, what it looks at.
    """
    own = segments.unsqueeze(2) == segments.unsqueeze(1)
    own[:, :, :shared] = True
    return own.tril().unsqueeze(1)


def places(segments: Tensor) -> Tensor:
    """Place of each token in its own text, ``(B, T)``, from which text it belongs to."""
    place = torch.arange(segments.shape[1], device=segments.device).expand_as(segments)
    is_first = torch.ones_like(segments, dtype=torch.bool)
    is_first[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return place - place.masked_fill(~is_first, 0).cummax(dim=1).values
