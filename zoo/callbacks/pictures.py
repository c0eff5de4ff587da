"""Draws a run: one augmented batch, the curves, and what the test shows."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning_utilities.core.rank_zero import rank_zero_only
from numpy.typing import NDArray
from torch import Tensor

from datamodules.core.plot import DPI
from datamodules.core.protocols import (
    HasClassNames,
    HasTargetName,
    HasTokenizer,
    SupportsDenormalize,
    SupportsDrawBatch,
    SupportsTexts,
    data_of,
)
from zoo.run.csv_logger import read_metrics
from zoo.run.wandb_logger import active_wandb

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@runtime_checkable
class DrawnTask(Protocol):
    """A task that keeps what a test's pictures are drawn from, by the pictures' names."""

    test_artifacts: dict[str, Any]


class Pictures(Callback):
    """Writes PNG files into the run folder and hands the same to W&B.

    ``batch.png`` (the first training batch as the net sees it), ``curves.png``, and from the test
    ``confusion.png``, ``reliability.png`` and ``wrong.png`` of a classifier, ``scatter.png`` of a
    regressor, ``confusion.png`` and ``masks.png`` of a segmenter; of a text classifier also
    ``wrong_texts.csv`` and, where it pools by attention, ``attention.png``.
    """

    @rank_zero_only
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw a training batch."""
        if isinstance(data := data_of(trainer), SupportsDrawBatch):
            self._keep(trainer, "batch", data.draw_batch("train"))

    @rank_zero_only
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the curves."""
        self._draw_curves(trainer)

    @rank_zero_only
    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Draw the curves as far as they go."""
        self._draw_curves(trainer)

    def _draw_curves(self, trainer: Trainer) -> None:
        from zoo.callbacks.plots import draw_curves

        path = Path(trainer.default_root_dir) / "metrics.csv"
        if path.is_file():
            self._keep(trainer, "curves", draw_curves(read_metrics(path)[1]))

    @rank_zero_only
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw what the task kept of the test."""
        from zoo.callbacks.plots import readable_names

        with readable_names():
            self._draw_test(trainer, pl_module)

    def _draw_test(self, trainer: Trainer, pl_module: LightningModule) -> None:
        from zoo.callbacks.plots import (
            draw_attention,
            draw_confusion,
            draw_reliability,
            draw_scatter,
        )

        if not isinstance(pl_module, DrawnTask):
            return
        data, artifacts = data_of(trainer), pl_module.test_artifacts
        figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if "confusion" in artifacts:
            names = class_names(trainer, pl_module)
            self._keep(trainer, "confusion", draw_confusion(_array(artifacts["confusion"]), names))
        if "reliability" in artifacts:
            plain, scaled = map(_array, artifacts["reliability"])
            temperature = f"temperature {figures['test/temperature']:.2f}"
            stages = {
                "as trained": (plain, figures["test/ece"]),
                temperature: (scaled, figures["test/ece_scaled"]),
            }
            self._keep(trainer, "reliability", draw_reliability(stages))
        if "scatter" in artifacts:
            predicted, target = (_array(values.reshape(-1)) for values in artifacts["scatter"])
            name = data.target_name if isinstance(data, HasTargetName) else "target"
            picture = draw_scatter(predicted, target, name, figures["test/r2"])
            self._keep(trainer, "scatter", picture)
        if "wrong_texts" in artifacts:
            names = class_names(trainer, pl_module)
            self._write_wrong_texts(trainer, names, artifacts["wrong_texts"])
        if artifacts.get("attention") and isinstance(data, HasTokenizer):
            texts = [
                ([data.text_tokenizer.token(number) for number in tokens.tolist()], _array(weights))
                for tokens, weights in artifacts["attention"]
            ]
            self._keep(trainer, "attention", draw_attention(texts))
        if artifacts.get("masks"):
            self._draw_masks(trainer, artifacts["masks"])
        if "wrong" in artifacts:
            self._draw_wrong(trainer, class_names(trainer, pl_module), artifacts["wrong"])

    def _draw_masks(self, trainer: Trainer, samples: list[tuple[Tensor, Tensor, Tensor]]) -> None:
        from datamodules.core.plot import overlay
        from zoo.callbacks.plots import draw_masks

        drawn = []
        for image, mask, predicted in samples:
            shown = visible(trainer, image[None])
            plain = shown.expand(1, 3, -1, -1)
            truth, guess = overlay(shown, mask[None]), overlay(shown, predicted[None])
            drawn.append([picture[0].permute(1, 2, 0).numpy() for picture in (plain, truth, guess)])
        self._keep(trainer, "masks", draw_masks(drawn))

    def _write_wrong_texts(
        self, trainer: Trainer, names: list[str], found: dict[str, Tensor]
    ) -> None:
        data = data_of(trainer)
        wrong = {name: v.cpu().reshape(-1).tolist() for name, v in found.items()}
        if not wrong["label"] or not isinstance(data, SupportsTexts):
            return
        rows = [
            [text, names[label], names[prediction], probability]
            for text, label, prediction, probability in zip(
                data.texts(wrong["image"]),
                wrong["label"],
                wrong["prediction"],
                wrong["probability"],
                strict=True,
            )
        ]
        columns = ["text", "label", "prediction", "probability"]
        path = Path(trainer.default_root_dir) / "wrong_texts.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([columns, *rows])
        for logger in active_wandb(trainer):
            logger.log_rows("wrong_texts", columns, rows, trainer.global_step)

    def _draw_wrong(self, trainer: Trainer, names: list[str], found: dict[str, Tensor]) -> None:
        from datamodules.core.plot import draw_images

        # torchmetrics takes the dimension away from a single value
        wrong = {name: v.cpu()[None] if v.ndim == 0 else v.cpu() for name, v in found.items()}
        if not len(wrong["label"]):
            return
        images = visible(trainer, wrong["image"])
        rows = [
            [names[int(label)], names[int(prediction)], float(probability)]
            for label, prediction, probability in zip(
                wrong["label"], wrong["prediction"], wrong["probability"], strict=True
            )
        ]
        titles = [f"{label}\n→ {prediction} {p:.2f}" for label, prediction, p in rows]
        headline = "most wrong: true class, prediction, its probability"
        self._keep(trainer, "wrong", draw_images(images, titles, headline))
        for logger in active_wandb(trainer):
            pixels = [image.permute(1, 2, 0).squeeze().numpy() for image in images]
            columns = ["label", "prediction", "probability"]
            logger.log_gallery("wrong_predictions", pixels, columns, rows, trainer.global_step)

    def _keep(self, trainer: Trainer, name: str, figure: Figure) -> None:
        from zoo.callbacks.plots import readable_names

        path = Path(trainer.default_root_dir) / f"{name}.png"
        with readable_names():
            figure.savefig(path, dpi=DPI)
        for logger in active_wandb(trainer):
            logger.log_image(f"pictures/{name}", [str(path)], step=trainer.global_step)


def class_names(trainer: Trainer, pl_module: LightningModule) -> list[str]:
    """Return the data's class names, or numbers where it has none."""
    data = data_of(trainer)
    names = data.class_names if isinstance(data, HasClassNames) else ()
    return list(names or map(str, range(pl_module.num_classes)))  # type: ignore[arg-type]


def _array(values: Tensor) -> NDArray[Any]:
    """Return values on the host, as matplotlib takes them."""
    return values.detach().cpu().double().numpy()


def visible(trainer: Trainer, images: Tensor) -> Tensor:
    """Return images as a person sees them: uint8 ``(B, C, H, W)`` with 1 or 3 channels."""
    data = data_of(trainer)
    if isinstance(data, SupportsDenormalize):
        shown = data.denormalize(images)
    else:  # somebody else's data: stretch each image's values
        low = images.amin((1, 2, 3), keepdim=True)
        high = images.amax((1, 2, 3), keepdim=True)
        shown = ((images - low) / (high - low).clamp(min=1e-6) * 255).byte()
    return shown if shown.shape[1] in (1, 3) else shown[:, :1]
