"""Why language models take layer norm: what a sentence's features owe to the rest of the batch.

Batch norm takes mean and variance of each feature over all tokens of a batch, so that what it makes
of a sentence depends on the padding, on the sentences beside it and on words that are still to
come. Layer norm takes them over the features of one token, and depends on nothing else.
"""

from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from datamodules import MovieReviews
from datamodules.core.errors import at_least
from datamodules.core.plot import new_figure, set_margins, text_width
from zoo import TransformerClassifier
from zoo.losses import cross_entropy
from zoo.nets.transformer import MaskedBatchNorm
from zoo.studies.drawing import lines, save_picture
from zoo.studies.tables import over_seeds, write_table

FEATURES = 64


def study(
    folder: Path,
    *,
    seeds: list[int],
    paddings: list[int],
    texts: int,
    batch_size: int,
    epochs: int,
) -> None:
    """Measure how far a sentence's features move, and train a Transformer under both norms.

    Args:
        folder: Gets the table and the pictures.
        seeds: Each draws its own sentences, features and nets.
        paddings: Tokens of padding that are added to a batch.
        texts: Sentences to train on, at most.
        batch_size: Sentences in a batch.
        epochs: How long each Transformer is trained.
    """
    at_least("options.batch_size", batch_size, 2)
    data = MovieReviews(part="rotten_tomatoes", vocab_size=4000)
    data.setup("fit")
    moved = [row for seed in seeds for row in movements(data, seed, batch_size, paddings)]
    trained = [
        row
        for norm in ("batch", "layer")
        for seed in seeds
        for row in train(data, norm, seed, texts, batch_size, epochs)
    ]
    last = [row for row in trained if row["epoch"] == epochs]
    means = [*over_seeds(moved, ["norm", "change"]), *over_seeds(last, ["norm", "epoch"])]
    write_table(folder, means, trials=[*moved, *last])
    save_picture(lambda: draw_movements(moved), folder / "movement.png")
    save_picture(
        lambda: lines(trained, "epoch", "val/acc", "norm", title="a small Transformer"),
        folder / "training.png",
    )


def movements(
    data: MovieReviews, seed: int, batch_size: int, paddings: list[int]
) -> list[dict[str, Any]]:
    """Return how far the features of a sentence move when something else changes.

    That is |after - before| / |before| over the features of all its tokens (but for the one that
    changes), before any training.
    """
    sentences = data.split("train")
    torch.manual_seed(seed)
    order = torch.randperm(len(sentences)).tolist()
    one, beside, others = order[0], order[1:batch_size], order[batch_size : 2 * batch_size - 1]
    batch = sentences.__getitems__([one, *beside])
    tokens, length = batch.tokens, int(batch.lengths[0])
    another_word = tokens.clone()
    another_word[0, length - 1] = tokens[1, 0]
    changed = {
        **{f"{n} more of padding": F.pad(tokens, (0, n), value=data.pad_id) for n in paddings},
        "other sentences beside it": sentences.__getitems__([one, *others]).tokens,
        "another last word": another_word,
    }

    embedding = nn.Embedding(data.vocab_size, FEATURES, padding_idx=data.pad_id)
    norms = {
        "batch": lambda x, mask: nn.BatchNorm1d(FEATURES)(x.flatten(0, 1)).view_as(x),
        "batch, without padding": MaskedBatchNorm(FEATURES),
        "layer": lambda x, mask: nn.LayerNorm(FEATURES)(x),
    }
    rows = []
    for name, norm in norms.items():

        def features(tokens: Tensor, norm: Any = norm) -> Tensor:
            normalised: Tensor = norm(embedding(tokens), tokens != data.pad_id)
            return normalised[0, : length - 1]

        with torch.no_grad():
            before = features(tokens)
            for change, after in changed.items():
                moved = float((features(after) - before).norm() / before.norm())
                rows.append({"norm": name, "change": change, "seed": seed, "movement": moved})
    return rows


def draw_movements(rows: list[dict[str, Any]]) -> Figure:
    """Draw how far the features move under each norm, on average over the seeds."""
    changes = list(dict.fromkeys(row["change"] for row in rows))
    norms = list(dict.fromkeys(row["norm"] for row in rows))
    figure = new_figure(8, 0.7 + 0.7 * len(changes))
    axes = figure.add_subplot()
    for number, norm in enumerate(norms):
        means = [
            fmean(row["movement"] for row in rows if (row["norm"], row["change"]) == (norm, change))
            for change in changes
        ]
        places = [place + 0.26 * (number - 1) for place in range(len(changes))]
        bars = axes.barh(places, means, 0.24, label=norm)
        axes.bar_label(bars, [f"{mean:.2g}" for mean in means], padding=3, fontsize="small")
    axes.set_yticks(range(len(changes)), changes)
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set_xlabel("how far a sentence's features move, as a share of their length")
    axes.legend(title="norm", fontsize="small", loc="lower right")
    left = text_width(changes, 10) + 0.2
    set_margins(figure, left=left, right=0.15, bottom=0.55, top=0.1)
    return figure


def train(
    data: MovieReviews, norm: str, seed: int, texts: int, batch_size: int, epochs: int
) -> list[dict[str, Any]]:
    """Train a Transformer; return its losses and its accuracy after each epoch."""
    train, val = data.split("train"), data.split("val")
    torch.manual_seed(seed)
    net = TransformerClassifier(
        data.vocab_size,
        2,
        pad_id=data.pad_id,
        embedding_dim=FEATURES,
        num_heads=2,
        norm=norm,  # type: ignore[arg-type]
    )
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.001)
    chosen = torch.randperm(len(train))[:texts]
    rows = []
    for epoch in range(1, epochs + 1):
        net.train()
        losses = []
        for numbers in chosen[torch.randperm(len(chosen))].split(batch_size):
            batch = train.__getitems__(numbers.tolist())
            loss = cross_entropy(net(batch.tokens, batch.lengths), batch.label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        net.eval()
        with torch.no_grad():
            batch = val.__getitems__(list(range(len(val))))
            logits = net(batch.tokens, batch.lengths)
        right = logits.argmax(1) == batch.label
        rows.append(
            {
                "norm": norm,
                "seed": seed,
                "epoch": epoch,
                "train/loss": sum(losses) / len(losses),
                "val/loss": float(cross_entropy(logits, batch.label)),
                "val/acc": float(right.float().mean()),
            }
        )
    return rows
