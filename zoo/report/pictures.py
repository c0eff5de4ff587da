"""Draws a run: one augmented batch, the curves, and what the test shows."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from lightning.pytorch import LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor

from datamodules.core.protocols import (
    HasClassNames,
    HasNames,
    HasTargetName,
    HasTokenizer,
    SupportsDenormalize,
    SupportsDrawBatch,
    SupportsTexts,
    data_of,
)
from zoo.callbacks.checkpoints import Checkpoints
from zoo.report.fonts import Fonts
from zoo.run.loggers import log_picture
from zoo.run.metrics_file import read_metrics
from zoo.run.wandb_logger import active_wandb
from zoo.run.wandb_media import Masked
from zoo.tasks.base import Task
from zoo.tasks.image_segmenter import ShownMask

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@runtime_checkable
class DrawnTask(Protocol):
    """A task that keeps what a test's pictures are drawn from, by the pictures' names."""

    test_artifacts: dict[str, Any]


class Pictures:
    """Writes PNG files into the run folder and hands the same to the loggers that can hold them.

    ``batch.png`` (the first training batch as the net sees it), ``curves.png``, and from the test
    ``confusion.png`` (of several labels a sample ``labels.png``), ``roc.png``, ``reliability.png``
    and ``wrong.png`` of a classifier, ``scatter.png`` of a regressor, ``confusion.png`` and
    ``masks.png`` (the worst images) of a segmenter; of a text classifier also ``wrong_texts.csv``
    and, where it pools by attention, ``attention.png``.

    They are drawn once the run's figures are written, and one that cannot be drawn costs a line on
    stderr and nothing else.

    Args:
        trainer: It has trained or tested.
        module: Its task.
    """

    def __init__(self, trainer: Trainer, module: LightningModule) -> None:
        self.trainer = trainer
        self.module = module
        self.folder = Path(trainer.default_root_dir)
        self.data = data_of(trainer)
        self.fonts = Fonts()

    def draw_training(self) -> None:
        """Draw a training batch, and the curves as far as they go."""
        from zoo.report.plots import draw_curves

        path = self.folder / "metrics.csv"
        if not path.is_file():
            return  # nothing was trained
        data = self.data
        if isinstance(data, SupportsDrawBatch):
            self._keep("batch", lambda: data.draw_batch("train"))
        saved = (c for c in self.trainer.checkpoint_callbacks if isinstance(c, Checkpoints))
        chosen = next((c.best_step for c in saved), None)
        differs_by = self.module.training_loss_options() if isinstance(self.module, Task) else []
        self._keep("curves", lambda: draw_curves(read_metrics(path)[1], chosen, differs_by))

    def draw_test(self) -> None:
        """Draw what the task kept of the test."""
        artifacts = self.module.test_artifacts if isinstance(self.module, DrawnTask) else {}
        drawn: dict[str, Callable[[Any], Figure | None]] = {
            "confusion": self._confusion,
            "labels": self._labels,
            "roc": self._roc,
            "reliability": self._reliability,
            "scatter": self._scatter,
            "attention": self._attention,
            "masks": self._masks,
            "wrong": self._wrong,
        }
        for name, draw in drawn.items():
            if artifacts.get(name) is not None:
                self._keep(name, partial(draw, artifacts[name]))
        if "wrong_texts" in artifacts:
            with costs_a_line("wrong_texts.csv", "written"):
                self._write_wrong_texts(artifacts["wrong_texts"])

    def _keep(self, name: str, draw: Callable[[], Figure | None]) -> None:
        path = self.folder / f"{name}.png"
        with costs_a_line(path.name):
            if not self.fonts.save(draw, path):
                return
            for logger in self.trainer.loggers:
                log_picture(logger, name, path, self.trainer.global_step)

    # ---------------------------------------------------------------- of a test

    def _confusion(self, counts: Tensor) -> Figure:
        from zoo.report.plots import draw_confusion

        return draw_confusion(_array(counts), self._class_names())

    def _labels(self, counts: Tensor) -> Figure:
        from zoo.report.plots import draw_labels

        return draw_labels(_array(counts), self._class_names())

    def _roc(self, of_samples: tuple[Tensor, Tensor]) -> Figure | None:
        from zoo.report.plots import draw_roc

        scores, labels = map(_array, of_samples)
        names = self._class_names()
        found = labels > 0 if labels.ndim == 2 else labels[:, None] == range(len(names))
        if labels.ndim == 1 and len(names) == 2:  # the other one's curve is its mirror image
            scores, found, names = scores[:, 1:], found[:, 1:], names[1:]
        return draw_roc(scores, found, names)

    def _reliability(self, bins: list[Tensor]) -> Figure:
        from zoo.report.plots import draw_reliability

        figures = self.trainer.callback_metrics
        plain, scaled = map(_array, bins)
        stages = {
            "as trained": (plain, float(figures["test/ece"])),
            f"temperature {figures['test/temperature']:.2f}": (
                scaled,
                float(figures["test/ece_scaled"]),
            ),
        }
        several = "labels" in self.module.test_artifacts  # type: ignore[operator]
        of = "share of labels that are there" if several else "accuracy"
        return draw_reliability(stages, of)

    def _scatter(self, values: list[Tensor]) -> Figure:
        from zoo.report.plots import draw_scatter

        predicted, target = (_array(each.reshape(-1)) for each in values)
        name = self.data.target_name if isinstance(self.data, HasTargetName) else "target"
        return draw_scatter(
            predicted, target, name, float(self.trainer.callback_metrics["test/r2"])
        )

    def _attention(self, texts: list[tuple[Tensor, Tensor]]) -> Figure | None:
        from zoo.report.plots import draw_attention

        if not texts or not isinstance(self.data, HasTokenizer):
            return None
        token = self.data.text_tokenizer.token
        return draw_attention(
            [([token(each) for each in row.tolist()], _array(weights)) for row, weights in texts]
        )

    def _masks(self, samples: list[ShownMask]) -> Figure | None:
        from zoo.report.mask_plots import MaskPicture, draw_masks

        names = self.data.names if isinstance(self.data, HasNames) else None
        drawn = []
        for sample in samples:
            image = self._visible(sample.image[None])[0].permute(1, 2, 0).numpy()
            name = "image" if sample.number < 0 else f"image {sample.number}"
            if names is not None and sample.number >= 0:
                name = Path(names[sample.number]).name
            dice = "no foreground" if math.isnan(sample.dice) else f"Dice {sample.dice:.2f}"
            title = f"{name}: {dice}"
            masks = [each.numpy().astype("uint8") for each in (sample.mask, sample.predicted)]
            drawn.append(MaskPicture(title, image, *masks))
        names_of_classes = self._class_names()
        for logger in active_wandb(self.trainer):
            laid = [Masked(e.image, e.truth, e.predicted, names_of_classes) for e in drawn]
            rows: list[list[Any]] = [
                [each.title.partition(":")[0], None if math.isnan(sample.dice) else sample.dice]
                for each, sample in zip(drawn, samples, strict=True)
            ]
            step = self.trainer.global_step
            logger.log_gallery("wrong_masks", laid, ["name", "dice"], rows, step)
        return draw_masks(drawn, names_of_classes) if drawn else None

    def _wrong(self, found: dict[str, Tensor]) -> Figure | None:
        from datamodules.core.plot import draw_images

        # torchmetrics takes the dimension away from a single value
        wrong = {name: v.cpu()[None] if v.ndim == 0 else v.cpu() for name, v in found.items()}
        if not len(wrong["label"]):
            return None
        images = self._visible(wrong["image"])
        rows = [
            [*self._truth_and_guess(int(label), int(prediction)), float(probability)]
            for label, prediction, probability in zip(
                wrong["label"], wrong["prediction"], wrong["probability"], strict=True
            )
        ]
        for logger in active_wandb(self.trainer):
            pixels = [image.permute(1, 2, 0).squeeze().numpy() for image in images]
            columns = ["label", "prediction", "probability"]
            step = self.trainer.global_step
            logger.log_gallery("wrong_predictions", pixels, columns, rows, step)
        titles = [f"{label}\n→ {prediction} {p:.2f}" for label, prediction, p in rows]
        return draw_images(images, titles, "most wrong: true class, prediction, its probability")

    def _truth_and_guess(self, label: int, prediction: int) -> tuple[str, str]:
        """Return what was true and what was predicted, in words."""
        names = self._class_names()
        if "labels" not in self.module.test_artifacts:  # type: ignore[operator]
            return names[label], names[prediction]
        name = names[prediction]
        return (name, f"no {name}") if label else (f"no {name}", name)

    def _write_wrong_texts(self, found: dict[str, Tensor]) -> None:
        wrong = {name: v.cpu().reshape(-1).tolist() for name, v in found.items()}
        if not wrong["label"] or not isinstance(self.data, SupportsTexts):
            return
        rows = [
            [text, *self._truth_and_guess(label, prediction), probability]
            for text, label, prediction, probability in zip(
                self.data.texts(wrong["image"]),
                wrong["label"],
                wrong["prediction"],
                wrong["probability"],
                strict=True,
            )
        ]
        columns = ["text", "label", "prediction", "probability"]
        path = self.folder / "wrong_texts.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([columns, *rows])
        for logger in active_wandb(self.trainer):
            logger.log_rows("wrong_texts", columns, rows, self.trainer.global_step)

    def _class_names(self) -> list[str]:
        """Return the data's class names, or numbers where it has none."""
        names = self.data.class_names if isinstance(self.data, HasClassNames) else ()
        return list(names or map(str, range(self.module.num_classes)))  # type: ignore[arg-type]

    def _visible(self, images: Tensor) -> Tensor:
        """Return images as a person sees them: uint8 ``(B, C, H, W)`` with 1 or 3 channels."""
        if isinstance(self.data, SupportsDenormalize):
            shown = self.data.denormalize(images)
        else:  # somebody else's data: stretch each image's values
            low = images.amin((1, 2, 3), keepdim=True)
            high = images.amax((1, 2, 3), keepdim=True)
            shown = ((images - low) / (high - low).clamp(min=1e-6) * 255).byte()
        return shown if shown.shape[1] in (1, 3) else shown[:, :1]


@contextmanager
def costs_a_line(name: str, done: str = "drawn") -> Iterator[None]:
    """Say what went wrong with something that is no figure of a run, instead of raising it.

    Args:
        name: What was made.
        done: How: drawn, written.
    """
    try:
        yield
    except Exception as error:
        why = " ".join(str(error).split())[:200]
        print(f"zoo: {name} was not {done} ({type(error).__name__}: {why})", file=sys.stderr)


def _array(values: Tensor) -> NDArray[Any]:
    """Return values on the host, as matplotlib takes them."""
    return values.detach().cpu().double().numpy()
