"""What batch norm does to a deep net: the spread of its activations and gradients by layer."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import lightning as L
import numpy as np
from torch import Tensor, nn

from datamodules import Digits
from datamodules.core.plot import new_figure, set_margins
from zoo import MLP, ImageClassifier
from zoo.cli.session import quiet
from zoo.errors import NonFiniteLoss
from zoo.nets.layers.norms import NormName
from zoo.studies.drawing import save_picture, set_log
from zoo.studies.tables import over_seeds, write_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NORMS: tuple[NormName, ...] = ("batch", "none")
PANELS = {"spread": "spread of activations", "gradient": "norm of the gradient"}


class Signals(L.Callback):
    """Records, at each step, how far a layer's outputs spread and how long its gradient is.

    The spread is how much of the samples' differences is left behind the activation: the standard
    deviation of each unit over the batch, the mean of all units. The gradient is that of the
    layer's weights.
    """

    def __init__(self, net: MLP) -> None:
        self.layers = [layer for layer in net.layers if isinstance(layer, nn.Linear)]
        activations = [layer for layer in net.layers if isinstance(layer, nn.ReLU)]
        self.spread: list[list[float]] = []
        self.gradient: list[list[float]] = []
        self.loss: list[float] = []
        for number, activation in enumerate(activations):
            activation.register_forward_hook(partial(self._see, number))

    def _see(self, number: int, module: nn.Module, args: Any, output: Tensor) -> None:
        if number == 0:
            self.spread.append([])
        self.spread[-1].append(output.detach().std(dim=0).mean().item())

    def on_before_optimizer_step(self, *args: Any) -> None:
        """Read the gradients, before anything clips them."""
        lengths = (layer.weight.grad for layer in self.layers)
        self.gradient.append([g.norm().item() for g in lengths if g is not None])

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *args: Any) -> None:
        """Read the loss."""
        self.loss.append(outputs["loss"].item())


def train(norm: NormName, seed: int, *, depth: int, width: int, lr: float, steps: int) -> Signals:
    """Train a net on digits for some steps.

    Args:
        norm: Before each activation.
        seed: Of start values and order.
        depth: Hidden layers.
        width: Units of each.
        lr: Learning rate of stochastic gradient descent.
        steps: Optimiser steps.
    """
    L.seed_everything(seed, verbose=False)
    net = MLP(1, 10, image_size=8, widths=[width] * depth, norm=norm)
    signals = Signals(net)
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=steps,
        limit_val_batches=0,
        use_distributed_sampler=False,
        callbacks=[signals],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    task = ImageClassifier(net, optimizer="sgd", lr=lr, weight_decay=0.0)
    with suppress(NonFiniteLoss):  # what was seen before is what there is to show
        trainer.fit(task, Digits(batch_size=64, seed=seed))
    return signals


def draw(seen: dict[NormName, Signals]) -> Figure:
    """Draw both figures over the steps, a line for each layer, the first dark and the last light.

    Args:
        seen: What was recorded under each norm.
    """
    from matplotlib import colormaps

    figure = new_figure(9.6, 6.4)
    for row, (name, title) in enumerate(PANELS.items()):
        for column, (norm, signals) in enumerate(seen.items()):
            axes = figure.add_subplot(2, 2, 2 * row + column + 1)
            values = np.array(getattr(signals, name))
            for number, of_layer in enumerate(values.T):
                colour = colormaps["viridis"](number / max(1, values.shape[1] - 1))
                label = f"layer {number + 1}" if number in (0, values.shape[1] - 1) else None
                steps = range(1, len(of_layer) + 1)
                axes.plot(steps, of_layer, color=colour, linewidth=1.1, label=label)
            set_log(axes, "y")
            axes.set_ylim(*_limits(seen, name))
            axes.set_title(f"{'with' if norm == 'batch' else 'without'} batch norm", fontsize=10)
            axes.set_ylabel(title)
            axes.set_xlabel("step")
            axes.grid(alpha=0.3)
            if row == column == 0:  # where there is room
                axes.legend(fontsize="small", loc="lower right")
    margins = {"left": 0.85, "right": 0.15, "bottom": 0.5, "top": 0.35}
    set_margins(figure, 2, 2, **margins, between_columns=0.9, between_rows=0.85)
    return figure


def _limits(seen: dict[NormName, Signals], name: str) -> tuple[float, float]:
    """Return the ends of an axis that both nets share."""
    values = np.concatenate([np.array(getattr(each, name)).ravel() for each in seen.values()])
    usable = values[np.isfinite(values) & (values > 0)]
    return float(usable.min()) / 1.5, float(usable.max()) * 1.5


def study(folder: Path, *, seeds: list[int], depth: int, width: int, lr: float, steps: int) -> None:
    """Train the same net with and without batch norm, and look into it.

    Args:
        folder: Gets the table and the picture.
        seeds: Each trains both nets; the picture shows the first's.
        depth: Hidden layers.
        width: Units of each.
        lr: Learning rate.
        steps: Optimiser steps.
    """
    quiet()
    options = {"depth": depth, "width": width, "steps": steps}
    seen = {norm: [train(norm, seed, lr=lr, **options) for seed in seeds] for norm in NORMS}
    rows = [
        {"norm": norm, "layer": layer + 1, "seed": seed, **figures_of(signals, layer)}
        for norm, runs in seen.items()
        for seed, signals in zip(seeds, runs, strict=True)
        for layer in range(depth)
    ]
    write_table(folder, over_seeds(rows, ["norm", "layer"]), trials=rows)
    for norm, runs in seen.items():
        first, last = (fmean(run.loss[step] for run in runs) for step in (0, -1))
        print(f"norm {norm}: loss {first:.3f} at the first step, {last:.3f} at the last")
    shown = {norm: runs[0] for norm, runs in seen.items()}
    save_picture(lambda: draw(shown), folder / "signals.png")


def figures_of(signals: Signals, layer: int) -> dict[str, float]:
    """Return a layer's figures at the first step and at the last."""
    return {
        f"{name}, {words} step": getattr(signals, name)[step][layer]
        for name in PANELS
        for words, step in (("first", 0), ("last", -1))
    }
