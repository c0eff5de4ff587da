"""Texts that a language model writes, token by token."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from zoo.nets.protocols import LimitsLength, Steps

_PART_OF_A_CHARACTER = "\N{REPLACEMENT CHARACTER}"


def choose(
    logits: Tensor,
    *,
    temperature: float,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> int:
    """Draw a token.

    ``softmax(logits / temperature)`` is cut to the ``top_k`` likeliest tokens, and then to the
    fewest of the likeliest whose probabilities sum to ``top_p`` or more (arXiv 1904.09751).

    Args:
        logits: ``(V,)``.
        temperature: Below 1 sharpens, above 1 flattens; 0 takes the likeliest token.
        top_k: How many tokens may be drawn at most.
        top_p: Their share of the probability.
        generator: Draws on the CPU.
    """
    logits = logits.detach().float().cpu()
    if temperature == 0:
        return int(logits.argmax())
    order = logits.argsort(descending=True, stable=True)[: top_k or len(logits)]
    shares = (logits[order] / temperature).softmax(dim=0)
    if top_p is not None:
        before = shares.cumsum(dim=0) - shares
        shares = shares.masked_fill(before >= top_p, 0.0)
    return int(order[torch.multinomial(shares, 1, generator=generator)])


def fitted(net: nn.Module, prompt: Sequence[int]) -> list[int]:
    """Return as many of a prompt's last tokens as the net's context holds."""
    longest = net.max_length if isinstance(net, LimitsLength) else None
    return list(prompt if longest is None else prompt[-longest:])


@dataclass(frozen=True)
class Writing:
    """How a language model writes on.

    Args:
        sample_tokens: How many tokens are written at most.
        temperature: Below 1 sharpens what is drawn from, above 1 flattens it; 0 takes the likeliest
            token.
        top_k: How many tokens may be drawn from at most.
        top_p: Share of the probability that is drawn from.
    """

    sample_tokens: int = 200
    temperature: float = 0.8
    top_k: int | None = None
    top_p: float | None = None

    def write(
        self, net: nn.Module, prompt: Sequence[int], *, stop_ids: Sequence[int] = (), seed: int = 0
    ) -> Iterator[int]:
        """Write on from a prompt's tokens; of one longer than the net's context the end is read."""
        return generate(
            net,
            fitted(net, prompt),
            max_new_tokens=self.sample_tokens,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            stop_ids=stop_ids,
            seed=seed,
        )


def pieces(tokens: Iterable[int], decode: Callable[[list[int]], str]) -> Iterator[str]:
    """Yield a text piece by piece as its tokens come; a character may take several tokens.

    Args:
        tokens: One after the other.
        decode: Gives the text of all so far.
    """
    written: list[int] = []
    shown = ""
    for token in tokens:
        written.append(token)
        text = decode(written)
        if text.startswith(shown) and not text.endswith(_PART_OF_A_CHARACTER):
            yield text[len(shown) :]
            shown = text
    text = decode(written)
    yield text[len(shown) :] if text.startswith(shown) else ""


def generate(
    net: nn.Module,
    prompt: Sequence[int],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop_ids: Collection[int] = (),
    seed: int = 0,
) -> Iterator[int]:
    """Write on from a prompt.

    What the net has read is kept, not read again (its ``step`` does that). Where its context is
    full, it goes on from the later half.

    Args:
        net: A language model with ``step`` and ``max_length``; its mode is restored at the end.
        prompt: The tokens to go on from, at least one.
        max_new_tokens: How many are written at most.
        temperature: As for :func:`choose`.
        top_k: As for :func:`choose`.
        top_p: As for :func:`choose`.
        stop_ids: Tokens at which it ends; they are not given.
        seed: Of the draws; torch's own generators are left alone.

    Returns:
        One token after the other, each written when it is asked for.

    Raises:
        ValueError: If the prompt is empty, or longer than the net's context.
    """
    longest = net.max_length if isinstance(net, LimitsLength) else None
    if not prompt:
        raise ValueError("the prompt has no tokens; give a text to go on from")
    if longest is not None and len(prompt) > longest:
        raise ValueError(
            f"the prompt has {len(prompt)} tokens, and the net's context ends at {longest}; "
            "shorten it"
        )
    draw = partial(choose, temperature=temperature, top_k=top_k, top_p=top_p)
    return _write(net, list(prompt), max_new_tokens, longest, draw, stop_ids, seed)


def _write(
    net: nn.Module,
    tokens: list[int],
    max_new_tokens: int,
    longest: int | None,
    draw: Callable[..., int],
    stop_ids: Collection[int],
    seed: int,
) -> Iterator[int]:
    assert isinstance(net, Steps)
    device = next(net.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    training = net.training
    net.eval()
    try:
        unread, state, read = list(tokens), None, 0
        for _ in range(max_new_tokens):
            if longest is not None and read + len(unread) > longest:
                unread, state, read = tokens[-max(1, longest // 2) :], None, 0
            # Each step's context is longer: compiled blocks would be compiled for it anew.
            with torch.no_grad(), torch.compiler.set_stance("force_eager"):
                logits, state = net.step(torch.tensor([unread], device=device), state)
            read += len(unread)
            token = draw(logits[0], generator=generator)
            if token in stop_ids:
                return
            tokens.append(token)
            unread = [token]
            yield token
    finally:
        net.train(training)
