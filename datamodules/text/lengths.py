"""How long texts are, as it is told before a run."""

import numpy as np

from datamodules.core.description import Fact
from datamodules.text.survey import Rows


def lengths_fact(lengths: Rows, most: int, fate: str) -> Fact:
    """Return what is known of texts' lengths.

    Args:
        lengths: Tokens in each text before any is cut, (N,).
        most: Tokens that a text has at most.
        fate: What becomes of longer ones, such as "lose their end".

    >>> lengths_fact(np.array([2, 3, 4, 40]), 10, "lose their end").text
    'median 4 tokens, 95 % up to 35, longest 40; 25.0% have more than 10 and lose their end'
    """
    median, high = np.percentile(lengths, [50, 95])
    longest, cut = int(lengths.max()), float((lengths > most).mean())
    text = f"median {median:,.0f} tokens, 95 % up to {high:,.0f}, longest {longest:,}; "
    text += f"{cut:.1%} have more than {most:,} and {fate}" if cut else f"none has over {most:,}"
    values = {
        "median": float(median),
        "percentile_95": float(high),
        "longest": longest,
        "max_length": most,
        "cut_share": cut,
    }
    return Fact("lengths", text, values)
