"""Huber's loss against smoother ones: their shapes, and a regression with ever more outliers.

With the residual r = prediction - target, all but mse and mae are a parabola for small r and a
straight line for large r. They differ in how they pass from one to the other, which the second
derivative (the curvature) shows: Huber's drops from 1 to 0 at once.
"""

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from datamodules import Diabetes
from datamodules.core.errors import between
from datamodules.core.plot import new_figure, set_margins
from zoo import MLP
from zoo.losses import regression_loss
from zoo.studies.drawing import lines, save_picture
from zoo.studies.tables import over_seeds, write_table

LOSSES = ("mse", "mae", "huber", "pseudo_huber", "log_cosh")


def study(folder: Path, *, seeds: list[int], shares: list[float], steps: int) -> None:
    """Draw the losses, and train under each of them with growing shares of outliers.

    Args:
        folder: Gets the table and the pictures.
        seeds: Each draws its own split, outliers and net.
        shares: Shares of the training targets that are spoilt.
        steps: Steps of training.
    """
    for share in shares:
        between("options.shares", share)
    save_picture(draw_losses, folder / "losses.png")
    rows = []
    for share in shares:
        for name in LOSSES:
            for seed in seeds:
                error = error_of_a_net(name, share, seed, steps)
                rows.append({"outliers": share, "loss": name, "seed": seed, "test/mae": error})
    write_table(folder, over_seeds(rows, ["outliers", "loss"]), trials=rows)
    title = "error on sound test targets"
    save_picture(
        lambda: lines(rows, "outliers", "test/mae", "loss", title=title, log_y=True),
        folder / "outliers.png",
    )


def curves(name: str, residuals: Tensor) -> dict[str, np.ndarray]:
    """Return a loss and its first two derivatives at some residuals, (N,) each, by autograd."""
    r = residuals.double().requires_grad_()
    loss = regression_loss(name)(r, torch.zeros_like(r), "none")
    (gradient,) = torch.autograd.grad(loss.sum(), r, create_graph=True)
    (curvature,) = torch.autograd.grad(gradient.sum(), r)
    values = {"loss": loss, "gradient": gradient, "curvature": curvature}
    return {title: each.numpy(force=True) for title, each in values.items()}


def draw_losses() -> Figure:
    """Draw loss, gradient and curvature beside each other."""
    residuals = torch.linspace(-4, 4, 402)  # an even number: 0, where mae has no slope, is left out
    figure = new_figure(12, 3.6)
    panels = figure.subplots(1, 3)
    limits_of = {"loss": (-0.2, 6), "gradient": (-3, 3), "curvature": (-0.1, 2.2)}
    for axes, (title, limits) in zip(panels, limits_of.items(), strict=True):
        for name in LOSSES:
            style = "--" if name == "huber" else "-"
            axes.plot(residuals, curves(name, residuals)[title], style, label=name)
        axes.set_title(title)
        axes.set_ylim(limits)
        axes.set_xlabel("residual")
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize="small")
    set_margins(figure, 1, 3, left=0.5, right=0.2, bottom=0.5, top=0.35, between_columns=0.5)
    return figure


def spoilt(targets: Tensor, share: float, seed: int) -> Tensor:
    """Return targets (N,) of which a share have their decimal point one place too far right."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(targets), generator=generator)[: round(share * len(targets))]
    targets = targets.clone()
    targets[chosen] *= 10
    return targets


def error_of_a_net(name: str, share: float, seed: int, steps: int) -> float:
    """Fit a linear net to spoilt targets; return its mean absolute error on sound ones."""
    data = Diabetes(split_seed=seed, test_fraction=0.3)
    data.setup()
    train, test = data.split("train"), data.split("test")
    x, y = (torch.from_numpy(a[train.rows]).float() for a in (train.features, train.target))
    y = spoilt(y, share, seed)
    # Outliers would stretch mean and standard deviation, and move the bend of each loss with them;
    # medians hardly notice them as long as they are fewer than half.
    middle = y.median()
    scale = 1.4826 * (y - middle).abs().median()  # the deviation, were they normally distributed

    torch.manual_seed(seed)
    net, loss = MLP(data.in_channels, 1, widths=[]), regression_loss(name)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(net(x)[:, 0], (y - middle) / scale).backward()
        optimizer.step()

    x, y = (torch.from_numpy(a[test.rows]).float() for a in (test.features, test.target))
    with torch.no_grad():
        predicted = net(x)[:, 0] * scale + middle
    return float((predicted - y).abs().mean())
