"""Softmax, temperature, entropy: how sure logits are, and how sure a net should say it is.

Softmax at the temperature T gives class c the probability exp(z_c / T) / sum_k exp(z_k / T); the
entropy H = -sum_c p_c log p_c says how undecided that is. As T goes to 0 the largest logit takes
all (argmax, H = 0); as T goes to infinity all classes become equal (H = log C).
"""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from datamodules import Digits
from datamodules.core.plot import new_figure, set_margins
from zoo import MLP
from zoo.metrics.calibration import (
    calibration_error,
    entropy,
    fit_temperature,
    reliability_bins,
    scores,
)
from zoo.report.plots import draw_reliability
from zoo.studies.drawing import save_picture
from zoo.studies.tables import over_seeds, write_table


def study(
    folder: Path,
    *,
    seeds: list[int],
    logits: list[float],
    temperatures: list[float],
    noise: float,
    epochs: int,
) -> None:
    """Draw softmax at many temperatures, and calibrate nets that were trained for too long.

    Args:
        folder: Gets the table and the pictures.
        seeds: Each draws its own noise and net.
        logits: Those of the first part, one a class.
        temperatures: At which the table has them.
        noise: Deviation of the noise on the digits, in deviations of their pixels.
        epochs: How long a net is trained.
    """
    fixed = torch.tensor(logits, dtype=torch.float64)
    rows = [
        {
            "logits of": "the recipe",
            "temperature": temperature,
            "entropy": float(entropy(fixed[None], temperature)),
            "largest probability": float((fixed / temperature).softmax(0).max()),
        }
        for temperature in temperatures
    ]
    nets = [overtrained(seed, noise, epochs) for seed in seeds]
    scaled = [
        {"logits of": name, "seed": seed, **figures(found, labels, by)}
        for seed, (found, labels, fitted) in zip(seeds, nets, strict=True)
        for name, by in (("a net", 1.0), ("a net, scaled", fitted))
    ]
    write_table(folder, [*rows, *over_seeds(scaled, ["logits of"])], trials=scaled)
    save_picture(lambda: draw_softmax(fixed), folder / "softmax.png")
    save_picture(lambda: draw_calibration(nets), folder / "calibration.png")


def figures(logits: Tensor, labels: Tensor, temperature: float) -> dict[str, float]:
    """Return how sure a net is at a temperature, and how far that is right."""
    found = scores(logits, labels, temperature)
    return {
        "temperature": temperature,
        "entropy": found["entropy"],
        "largest probability": float((logits / temperature).softmax(1).amax(1).mean()),
        "test/acc": float((logits.argmax(1) == labels).float().mean()),
        "test/ece": found["ece"],
        "test/nll": found["nll"],
    }


def draw_calibration(nets: list[tuple[Tensor, Tensor, float]]) -> Figure:
    """Draw accuracy against confidence before and after scaling, of all nets together."""
    labels = torch.cat([labels for _, labels, _ in nets])
    stages = {}
    for name, temperatures in (
        ("T = 1", [1.0 for _ in nets]),
        ("fitted T", [fitted for *_, fitted in nets]),
    ):
        probabilities = [
            (logits / by).softmax(1) for (logits, *_), by in zip(nets, temperatures, strict=True)
        ]
        bins = reliability_bins(torch.cat(probabilities), labels)
        stages[name] = bins.numpy(), calibration_error(bins)
    return draw_reliability(stages)


def draw_softmax(logits: Tensor) -> Figure:
    """Draw the probabilities and the entropy of logits (C,) from temperature 0.1 to 10."""
    temperatures = torch.logspace(-1, 1, 200, dtype=torch.float64)
    scaled = logits / temperatures[:, None]  # (200, C)
    figure = new_figure(10, 4)
    left, right = figure.subplots(1, 2)
    for logit, p in zip(logits.tolist(), scaled.softmax(1).T, strict=True):
        left.plot(temperatures, p, label=f"logit {logit:g}")
    equal = 1 / len(logits)
    left.axhline(equal, color="grey", linestyle=":", label=f"1 / C = {equal:.3g}")
    left.set_ylabel("probability")
    right.plot(temperatures, entropy(scaled), color="black")
    right.axhline(0, color="grey", linestyle="--", label="T → 0: argmax, entropy 0")
    most = math.log(len(logits))
    right.axhline(most, color="grey", linestyle=":", label=f"T → ∞: uniform, log C = {most:.3f}")
    right.set_ylabel("entropy in nats")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xticks([0.1, 0.3, 1, 3, 10], ["0.1", "0.3", "1", "3", "10"])
        axes.set_xlabel("temperature")
        axes.grid(alpha=0.3)
    left.legend(fontsize="small", loc="upper right")
    right.legend(fontsize="small", loc="center right")
    set_margins(figure, 1, 2, left=0.7, right=0.2, bottom=0.55, top=0.15, between_columns=0.8)
    return figure


def overtrained(seed: int, noise: float, epochs: int) -> tuple[Tensor, Tensor, float]:
    """Train a net on noisy digits until it knows them by heart.

    Returns:
        Its logits of the test digits (N, 10), their labels (N,), and the temperature that fits
        its logits of the validation digits best.
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
    net = MLP(1, 10, image_size=8, widths=[256])
    optimizer = torch.optim.Adam(net.parameters(), lr=0.001)
    for _ in range(epochs):
        for rows in torch.randperm(len(labels)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(net(images[rows]), labels[rows]).backward()
            optimizer.step()

    with torch.no_grad():
        val, test = net(splits["val"][0]), net(splits["test"][0])
    return test, splits["test"][1], fit_temperature(val, splits["val"][1])
