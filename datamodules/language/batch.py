"""What a language model learns from: tokens, and what follows each."""

from typing import Any, NamedTuple

from torch import Tensor


class TokenBatch(NamedTuple):
    """Rows of tokens.

    Attributes:
        tokens: Int64 (B, T), padded on the right with ``pad_id``.
        labels: Int64 (B, T), the token that follows each place, so nothing is left to be shifted;
            ``IGNORE_INDEX`` where there is no loss.
        index: Int64 (B,), the number of the window or sample; of packed rows their first sample's.
        position_ids: Int64 (B, T), the place of each token within its own sample, 0 for padding;
            None means 0 to T - 1 in every row.
        segment_ids: Int64 (B, T), which sample of its row a token belongs to, from 0; -1 for
            padding; None means one sample a row.
        shared_prefix_len: How many tokens at the start of each row belong to all samples of the
            row, and not to segment 0 alone.
    """

    tokens: Tensor
    labels: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which no one needs here
    position_ids: Tensor | None = None
    segment_ids: Tensor | None = None
    shared_prefix_len: int = 0

    def first_row(self) -> "TokenBatch":
        """Return the first row, without the batch dimension."""
        parts: list[Any] = [part[0] if isinstance(part, Tensor) else part for part in self]
        return TokenBatch(*parts)
