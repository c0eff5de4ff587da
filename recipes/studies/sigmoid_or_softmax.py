"""Sigmoid or softmax at the end: what the outputs sum to, and one-label data under both.

Softmax, p_c = exp(z_c) / sum_k exp(z_k), shares one whole out among the classes: right where each
sample has exactly one label. Sigmoids, s_c = 1 / (1 + exp(-z_c)), ask about each class by itself:
right where a sample may have several labels, or none.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from datamodules import Digits
from datamodules.core.plot import new_figure, set_margins
from zoo import MLP
from zoo.losses import binary_cross_entropy, cross_entropy
from zoo.studies.drawing import save_picture, set_log
from zoo.studies.tables import over_seeds, write_table

HEADS = ("softmax", "sigmoid")


def study(folder: Path, *, seeds: list[int], noise: float, epochs: int) -> None:
    """Train the same net under both heads, and sum their outputs.

    Args:
        folder: Gets the table and the pictures.
        seeds: Each draws its own noise and net.
        noise: Deviation of the noise on the digits, in deviations of their pixels.
        epochs: How long each net is trained.
    """
    rows, sums, curves = [], {}, {}
    for head in HEADS:
        for seed in seeds:
            outputs, labels, accuracies = outputs_of_a_net(head, seed, noise, epochs)
            rows.append({"head": head, "seed": seed, **figures(outputs, labels)})
            sums.setdefault(head, []).append(outputs.sum(1))
            curves.setdefault(head, []).append(torch.tensor(accuracies))
    write_table(folder, over_seeds(rows, ["head"]), trials=rows)
    save_picture(lambda: draw(sums, curves), folder / "sums.png")


def figures(outputs: Tensor, labels: Tensor) -> dict[str, float]:
    """Return what the outputs (N, C) of test samples sum to, and how often they are right."""
    sums = outputs.sum(1)
    over_half = (outputs > 0.5).sum(1)
    return {
        "lowest sum": float(sums.min()),
        "mean sum": float(sums.mean()),
        "highest sum": float(sums.max()),
        "none over 0.5": float((over_half == 0).float().mean()),
        "several over 0.5": float((over_half > 1).float().mean()),
        "test/acc": float((outputs.argmax(1) == labels).float().mean()),
    }


def outputs_of_a_net(
    head: str, seed: int, noise: float, epochs: int
) -> tuple[Tensor, Tensor, list[float]]:
    """Train a net under one head.

    Returns:
        Its outputs for the test digits (N, 10), their labels (N,), and its accuracy on the
        validation digits after each epoch.
    """
    data = Digits(batch_size=2000)  # a whole split in a batch
    data.setup()
    torch.manual_seed(seed)
    splits = {}
    for stage in ("train", "val", "test"):
        batch = next(iter(getattr(data, f"{stage}_dataloader")()))
        batch = data.on_after_batch_transfer(batch, 0)
        splits[stage] = batch.image + noise * torch.randn_like(batch.image), batch.label

    images, labels = splits["train"]
    net = MLP(1, 10, image_size=8, widths=[128])
    optimizer = torch.optim.Adam(net.parameters(), lr=0.001)
    accuracies = []
    for _ in range(epochs):
        for rows in torch.randperm(len(labels)).split(64):
            logits = net(images[rows])
            if head == "softmax":
                loss = cross_entropy(logits, labels[rows])
            else:  # ten questions with yes or no, of which one has yes
                loss = binary_cross_entropy(logits, F.one_hot(labels[rows], 10))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            right = net(splits["val"][0]).argmax(1) == splits["val"][1]
        accuracies.append(float(right.float().mean()))

    with torch.no_grad():
        logits = net(splits["test"][0])
    outputs = logits.softmax(1) if head == "softmax" else logits.sigmoid()
    return outputs, splits["test"][1], accuracies


def draw(sums: dict[str, list[Tensor]], curves: dict[str, list[Tensor]]) -> Figure:
    """Draw the sums of the outputs, and the accuracy on validation (mean over seeds)."""
    figure = new_figure(10, 4)
    left, right = figure.subplots(1, 2)
    bins = torch.linspace(0, max(2.0, float(torch.cat(sums["sigmoid"]).max())), 60)
    for head in HEADS:
        left.hist(torch.cat(sums[head]), bins, alpha=0.6, label=head)
        epochs = torch.arange(1, len(curves[head][0]) + 1)
        right.plot(epochs, torch.stack(curves[head]).mean(0), label=head)
    set_log(left, "y")
    left.set_xlabel("sum of the ten outputs")
    left.set_ylabel("test images")
    right.set_xlabel("epoch")
    right.set_ylabel("val/acc")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    set_margins(figure, 1, 2, left=0.7, right=0.2, bottom=0.55, top=0.15, between_columns=0.8)
    return figure
