"""Cross-entropy fed with probabilities: what a softmax too many does to training.

Cross-entropy applies softmax itself. A net that ends in softmax is squashed twice: its outputs lie
between 0 and 1, so that the best that it can say (1 for the label, 0 for the other C - 1 classes)
still costs -log(e / (e + C - 1)) = log(1 + (C - 1) / e), which is 1.46 for ten classes. The zoo's
tasks refuse such a net, which is why this one is trained by a loop of its own.
"""

import math
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from datamodules import Digits
from datamodules.core.plot import new_figure, set_margins
from zoo import MLP
from zoo.losses import cross_entropy
from zoo.studies.drawing import save_picture, set_log
from zoo.studies.tables import over_seeds, write_table

OUTPUTS = ("logits", "probabilities")


class EndsInSoftmax(nn.Module):
    """A classifier whose outputs (B, C) are probabilities already.

    Args:
        net: Gives the logits.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Return probabilities (B, C)."""
        return self.net(x).softmax(1)


def study(folder: Path, *, seeds: list[int], epochs: int, lr: float) -> None:
    """Train the same net on its logits and on its probabilities.

    Args:
        folder: Gets the table and the pictures.
        seeds: Each draws its own net, the same for both.
        epochs: How long each net is trained.
        lr: Learning rate of plain gradient descent, under which a smaller gradient is a smaller
            step.
    """
    rows, curves = [], {}
    for outputs in OUTPUTS:
        for seed in seeds:
            curve = train(outputs, seed, epochs, lr)
            curves.setdefault(outputs, []).append(curve)
            first, last = curve[0], curve[-1]
            rows.append(
                {
                    "outputs": outputs,
                    "seed": seed,
                    "lowest possible loss": floor(10) if outputs == "probabilities" else 0.0,
                    "train/loss": last["train/loss"],
                    "first gradient norm": first["gradient norm"],
                    "last gradient norm": last["gradient norm"],
                    "val/acc": last["val/acc"],
                }
            )
    write_table(folder, over_seeds(rows, ["outputs"]), trials=rows)
    save_picture(lambda: draw(curves), folder / "curves.png")


def floor(classes: int) -> float:
    """Return the lowest cross-entropy of outputs between 0 and 1."""
    return math.log(1 + (classes - 1) / math.e)


def train(outputs: str, seed: int, epochs: int, lr: float) -> list[dict[str, float]]:
    """Train a net; return its figures after each epoch, the first before any step."""
    data = Digits(batch_size=2000)  # a whole split in a batch
    data.setup()
    train, val = (
        data.on_after_batch_transfer(next(iter(loader)), 0)
        for loader in (data.train_dataloader(), data.val_dataloader())
    )
    torch.manual_seed(seed)
    net = MLP(1, 10, image_size=8, widths=[128])
    if outputs == "probabilities":
        net = EndsInSoftmax(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)

    def figures() -> dict[str, float]:
        loss = cross_entropy(net(train.image), train.label)
        gradients = torch.autograd.grad(loss, list(net.parameters()))
        with torch.no_grad():
            right = net(val.image).argmax(1) == val.label
        return {
            "train/loss": loss.item(),
            "gradient norm": nn.utils.get_total_norm(gradients).item(),
            "val/acc": right.float().mean().item(),
        }

    curve = [figures()]
    for _ in range(epochs):
        for rows in torch.randperm(len(train.label)).split(64):
            optimizer.zero_grad()
            cross_entropy(net(train.image[rows]), train.label[rows]).backward()
            optimizer.step()
        curve.append(figures())
    return curve


def draw(curves: dict[str, list[list[dict[str, float]]]]) -> Figure:
    """Draw loss, gradient and accuracy over the epochs, a line for each seed."""
    figure = new_figure(13, 3.8)
    panels = figure.subplots(1, 3)
    for axes, name in zip(panels, ("train/loss", "gradient norm", "val/acc"), strict=True):
        for number, outputs in enumerate(OUTPUTS):
            for place, curve in enumerate(curves[outputs]):
                values = [figures[name] for figures in curve]
                label = f"fed with {outputs}" if place == 0 else None
                axes.plot(values, color=f"C{number}", alpha=0.8, label=label)
        axes.set_xlabel("epoch")
        axes.set_title(name)
        axes.grid(alpha=0.3)
    panels[0].axhline(floor(10), color="grey", linestyle=":", label="log(1 + (C - 1) / e)")
    panels[0].legend(fontsize="small")
    set_log(panels[1], "y")
    set_margins(figure, 1, 3, left=0.5, right=0.2, bottom=0.5, top=0.35, between_columns=0.6)
    return figure
