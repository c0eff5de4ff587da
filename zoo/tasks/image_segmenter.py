"""Segmentation: a class for each pixel."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from datamodules.core.errors import refuse, refuse_unused
from datamodules.core.protocols import MASK_IGNORE_INDEX
from zoo.errors import UserError
from zoo.inference.outputs import MaskAnswers, overlap_of
from zoo.inference.tiling import reach
from zoo.losses.base import TargetKind
from zoo.losses.segmentation import SegmentationLoss, segmentation_loss
from zoo.metrics.classes import (
    Confusion,
    confusion_counts,
    dice_of_images,
    f1,
    iou,
    mean_over_classes,
)
from zoo.metrics.collectors import Collected, in_order
from zoo.metrics.intervals import Intervals, intervals
from zoo.metrics.resampled import masks as masks_of_resamples
from zoo.nets.outputs import main_logits
from zoo.tasks.base import Stage, Task, given_weights, numbered, numbers_of, weights_of_data
from zoo.tasks.logged import Logged
from zoo.tasks.net_spec import known_classes

_MOST_PICTURES = 6


class ShownMask(NamedTuple):
    """An image of a test that is drawn.

    Attributes:
        dice: How well its mask was predicted; NaN where no foreground is true or predicted.
        number: Its number in the data set; -1 where it has none.
        image: As the net got it, (C, H, W).
        mask: Each pixel's class, (H, W).
        predicted: The same as predicted.
    """

    dice: float
    number: int
    image: Tensor
    mask: Tensor
    predicted: Tensor


class ImageSegmenter(Task):
    """Puts each pixel of an image into one of several classes.

    A batch starts with images ``(B, C, H, W)``, floats, and masks ``(B, H, W)``, integers; pixels
    with 255 do not count. The net gives logits ``(B, num_classes, H, W)``.

    With the counts of pixels over a whole set (true positives TP, false positives FP, false
    negatives FN), Dice and intersection over union of a class are

    ``dice = 2 TP / (2 TP + FP + FN)``, ``iou = TP / (TP + FP + FN)``

    A class that neither occurs nor is predicted has none. ``dice`` and ``iou`` without a class are
    means over the others but the first, which is the background; see :mod:`zoo.metrics.classes`. At
    test ``dice_of_images`` is the mean over the images of each one's own Dice, without images that
    have no foreground, neither true nor predicted.

    Args:
        net: The network.
        num_classes: Taken from the data by the command line; in Python from the net's attribute of
            that name where it is left out.
        class_names: For the figures of single classes; taken from the data by the command line.
        label_kind: Taken from the data by the command line.
        loss: See :mod:`zoo.losses`.
        class_weights: One factor a class on its pixels' loss; ``auto`` takes factors inverse to the
            classes' shares of the training split's pixels.
        focal_gamma: Exponent of ``focal`` (arXiv 1708.02002).
        tile: Images with more pixels a side than this are evaluated in overlapping tiles, which
            gives the same unless the net's norms look at the whole image (layer, group, instance,
            rms, frn).
        channels_last: Keeps images in the memory order that convolutions like best.
        kwargs: The options of :class:`~zoo.tasks.base.Task`.

    Raises:
        OptionError: If an option lies outside what it may be.
    """

    monitor: ClassVar[str] = "val/dice"
    derived_names = ("acc", "dice", "iou")
    mode: ClassVar[Literal["min", "max"]] = "max"

    logged: ClassVar[Logged] = Logged(
        val=("loss", "acc", "dice", "iou"),
        test=("loss", "acc", "dice", "iou", "dice_of_images"),
        pictures=("batch", "curves", "confusion", "masks"),
        tables=("classes", "wrong_masks"),
    )
    has_dynamic_shapes: ClassVar[bool | None] = False

    def __init__(
        self,
        net: nn.Module,
        *,
        num_classes: int | None = None,
        class_names: list[str] | None = None,
        label_kind: TargetKind = "mask",
        loss: SegmentationLoss = "dice_cross_entropy",
        class_weights: list[float] | Literal["auto"] | None = None,
        focal_gamma: float = 2.0,
        tile: int = 1024,
        channels_last: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(net, **kwargs)
        if label_kind != "mask":
            raise refuse(
                "label_kind",
                label_kind,
                "choose another task, or data with masks, such as SegmentationFolder",
            )
        classes = known_classes(num_classes, net)
        self.num_classes = classes
        self.class_names = class_names or [str(number) for number in range(classes)]
        self.weigh_classes = class_weights == "auto"
        self.loss = segmentation_loss(
            loss,
            class_weights=given_weights(class_weights, classes),
            ignore_index=MASK_IGNORE_INDEX,
            focal_gamma=focal_gamma,
        )
        refuse_unused("focal_gamma", focal_gamma, 2.0, loss, "focal")
        # Validation and test weigh all pixels alike, whatever training does.
        self.plain_loss = segmentation_loss(
            loss, ignore_index=MASK_IGNORE_INDEX, focal_gamma=focal_gamma
        )
        self.tile = tile
        self.overlap, (_, step) = overlap_of(net), reach(net)
        lost = 2 * self.overlap + step
        if tile <= lost:
            raise refuse(
                "tile",
                tile,
                f"give more than {lost}, as a pixel's prediction looks {self.overlap} pixels far",
            )
        self.channels_last = channels_last
        if channels_last:
            net.to(memory_format=torch.channels_last)
        self._worst: list[ShownMask] = []

    def training_loss_options(self) -> list[str]:
        """Return the weights of classes, where there are any."""
        return [] if self.loss.class_weights is None else ["class_weights"]

    # ---------------------------------------------------------------- figures

    def build_collectors(self, stage: Stage) -> dict[str, Metric]:
        """Return the confusion of the pixels, and at test that of each image."""
        collectors: dict[str, Metric] = {
            "confusion": Confusion(self.num_classes, MASK_IGNORE_INDEX)
        }
        return {**collectors, "of_images": Collected(3)} if stage == "test" else collectors

    def derived_metrics(self, stage: Stage, artifacts: dict[str, Any]) -> dict[str, float]:
        """Return the pixels' accuracy, Dice and IoU, and at test those of each class."""
        counts = artifacts["confusion"].cpu()
        of_classes = counts.diagonal(), counts.sum(0), counts.sum(1)
        figures = {f"{stage}/acc": float(counts.trace() / counts.sum().clamp(min=1))}
        for name, values in (("dice", f1(*of_classes)), ("iou", iou(*of_classes))):
            figures[f"{stage}/{name}"] = mean_over_classes(values[1:])
            if stage == "test":
                for of, value in zip(self.class_names, values.tolist(), strict=True):
                    if not math.isnan(value):
                        figures[f"test/{name}_{of}"] = value
        if stage == "test":
            artifacts["masks"], self._worst = self._worst, []
            counts, losses, numbers = artifacts.pop("of_images")
            numbers, counts, losses = in_order(numbers, counts, losses.reshape(-1))
            artifacts["images"] = {"index": numbers, "counts": counts, "loss": losses}
            mean = float(dice_of_images(counts).nanmean())
            if not math.isnan(mean):
                figures["test/dice_of_images"] = mean
        return figures

    def intervals(self, figures: dict[str, float], artifacts: dict[str, Any]) -> Intervals:
        """Return the intervals of a test's figures, whose samples are whole images."""
        counts, losses = artifacts["images"]["counts"], artifacts["images"]["loss"]
        of_resamples = masks_of_resamples(counts, losses, self.class_names)
        return intervals(of_resamples, figures, len(counts))

    def on_fit_start(self) -> None:
        """Take the classes' weights from the training split where that is asked for."""
        if self.weigh_classes:
            self.loss.class_weights = weights_of_data(self.trainer, self.num_classes, self.device)

    # ---------------------------------------------------------------- steps

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(B, num_classes, H, W)``; of large images tile by tile, no gradient."""
        return self.answers().logits(self.net, images)

    def answers(self) -> MaskAnswers:
        """Return how predictions are made of images."""
        return MaskAnswers(self.tile)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        images, masks = batch[0], batch[1]
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        logits = main_logits(self.net(images), self.net)
        if self.global_step == 0 and batch_idx == 0:
            self._check_masks(masks)
            self.check_logits(logits, "multiclass", (self.num_classes, *masks.shape[1:]))
        loss: Tensor = self.loss(logits, masks)
        weight = self.loss.weight(logits, masks)
        self.log_training(loss, len(masks), weight)
        return self.share_of_step(loss, weight)

    def _check_masks(self, masks: Tensor) -> None:
        wrong = masks[(masks != MASK_IGNORE_INDEX) & ((masks < 0) | (masks >= self.num_classes))]
        if len(wrong):
            raise UserError(
                f"the data's masks hold {int(wrong[0])}, but num_classes is {self.num_classes}; "
                f"classes run from 0 to {self.num_classes - 1}, and {MASK_IGNORE_INDEX} is left out"
            )

    def add_batch(self, stage: Stage, batch: Any) -> Tensor:
        """Add one batch to the figures of a stage, and return the predicted masks."""
        masks, meters = batch[1], self.meters[stage]
        logits = self(batch[0]).float()
        losses = self.plain_loss(logits, masks, reduction="none")
        meters.loss.update(losses)
        predicted: Tensor = logits.argmax(dim=1)
        meters.collectors["confusion"].update(predicted, masks)
        if stage == "test":
            counts = torch.stack(
                [self._pixels(*pair) for pair in zip(predicted, masks, strict=True)]
            )
            numbers = numbers_of(batch, masks)
            meters.collectors["of_images"].update(counts, losses, numbers)
            self._keep_worst(batch, predicted, dice_of_images(counts).tolist(), numbers.tolist())
        return predicted

    def _keep_worst(
        self, batch: Any, predicted: Tensor, dice: list[float], numbers: list[int]
    ) -> None:
        """Keep the worst images for the picture; of several processes the first draws its own."""
        full = len(self._worst) == _MOST_PICTURES
        worst = _rank(self._worst[-1].dice) if full else (True, math.inf)
        for place in sorted(range(len(dice)), key=lambda each: _rank(dice[each]))[:_MOST_PICTURES]:
            if _rank(dice[place]) < worst:
                image, mask, guess = batch[0][place], batch[1][place], predicted[place]
                pixels = image.float().cpu(), mask.cpu(), guess.cpu()
                self._worst.append(ShownMask(dice[place], numbers[place], *pixels))
        self._worst = sorted(self._worst, key=lambda each: _rank(each.dice))[:_MOST_PICTURES]

    def _pixels(self, predicted: Tensor, mask: Tensor) -> Tensor:
        """Return an image's pixels of each class, rightly predicted, predicted and true."""
        counts = confusion_counts(predicted, mask, self.num_classes, MASK_IGNORE_INDEX)
        return torch.stack([counts.diagonal(), counts.sum(0), counts.sum(1)])

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        """Return a mask ``(H, W)`` for each image, and sample numbers."""
        answers = self.answers()
        return numbered(batch, **{answers.kind: answers.of_logits(self(batch[0]))})


def _rank(dice: float) -> tuple[bool, float]:
    """Return what sorts the worst first, and last the images that have no Dice."""
    return (True, 0.0) if math.isnan(dice) else (False, dice)
