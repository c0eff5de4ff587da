"""Image classification."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassCalibrationError,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
)

from zoo.errors import UserError
from zoo.metrics import MostWrong, ReliabilityBins
from zoo.tasks.base import Task


class ImageClassifier(Task):
    """Puts an image into one of several classes: cross-entropy on logits.

    A batch starts with images ``(B, C, H, W)``, floats, and labels ``(B,)``, integers. The net
    gives logits ``(B, num_classes)``: the loss's softmax would squash probabilities a second time.
    A net with auxiliary heads gives, in training, a tuple of the logits and the heads' logits, as
    torchvision's GoogLeNet and Inception v3 do.

    Validation and test losses are the plain cross-entropy, without smoothing or class weights.

    Args:
        net: The network.
        num_classes: Taken from the data by the command line; in Python from the net's attribute of
            that name where it is left out.
        label_smoothing: Share of the target that is spread evenly over all classes
            (arXiv 1512.00567).
        class_weights: One factor a class on its samples' loss.
        aux_weight: Factor on each auxiliary head's loss; 0.3 in GoogLeNet (arXiv 1409.4842).
        mixup_alpha: Blends pairs of images and labels by a Beta(alpha, alpha) draw
            (arXiv 1710.09412); 0 switches it off.
        cutmix_alpha: Pastes a box of one image into another (arXiv 1905.04899); 0 switches it off.
            With both, each batch draws one of the two.
        kwargs: The options of :class:`~zoo.tasks.base.Task`.

    Raises:
        ValueError: An option lies outside what it may be.
    """

    class_weights: Tensor | None
    monitor: ClassVar[str] = "val/acc"
    mode: ClassVar[Literal["min", "max"]] = "max"

    def __init__(
        self,
        net: nn.Module,
        *,
        num_classes: int | None = None,
        label_smoothing: float = 0.0,
        class_weights: list[float] | None = None,
        aux_weight: float = 0.3,
        mixup_alpha: float = 0.0,
        cutmix_alpha: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(net, **kwargs)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing is {label_smoothing}; give a number from 0 to 1")
        for name, alpha in (("mixup_alpha", mixup_alpha), ("cutmix_alpha", cutmix_alpha)):
            if alpha < 0:
                raise ValueError(f"{name} is {alpha}; give 0 (off) or more")
        classes = num_classes or getattr(net, "num_classes", None)
        if not isinstance(classes, int):
            raise ValueError("num_classes is not known; pass num_classes=")
        if class_weights is not None and len(class_weights) != classes:
            raise ValueError(
                f"class_weights has {len(class_weights)} numbers, but there are {classes} classes"
            )
        if class_weights is not None and min(class_weights) < 0:
            raise ValueError(f"class_weights is {class_weights}; give numbers of 0 or more")
        self.num_classes = classes
        self.label_smoothing = label_smoothing
        self.aux_weight = aux_weight
        weights = None if class_weights is None else torch.tensor(class_weights)
        self.register_buffer("class_weights", weights, persistent=False)
        self.mix = _mixer(classes, mixup_alpha, cutmix_alpha)
        self.test_pictures: dict[str, Any] = {}

    def build_metrics(self, stage: Literal["val", "test"]) -> MetricCollection:
        """Accuracy, top-5 accuracy (more than five classes) and macro F1; more at test."""
        classes = self.num_classes
        metrics: dict[str, Any] = {
            "acc": MulticlassAccuracy(classes, average="micro"),
            "f1": MulticlassF1Score(classes, average="macro"),
        }
        if classes > 5:
            metrics["top5"] = MulticlassAccuracy(classes, average="micro", top_k=5)
        if stage == "test":
            metrics["auroc"] = MulticlassAUROC(classes)
            metrics["ece"] = MulticlassCalibrationError(classes, n_bins=15)
        return MetricCollection(metrics, prefix=f"{stage}/")

    def setup(self, stage: str) -> None:
        """Adds what the pictures of a test are drawn from."""
        super().setup(stage)
        if stage == "test":
            self.test_views = nn.ModuleDict(
                {
                    "confusion": MulticlassConfusionMatrix(self.num_classes),
                    "reliability": ReliabilityBins(),
                    "wrong": MostWrong(),
                }
            ).to(self.device)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, num_classes)`` of images ``(B, C, H, W)``."""
        return main_logits(self.net(images))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The loss of one batch."""
        images, labels = batch[0], batch[1]
        if self.global_step == 0 and batch_idx == 0:
            self._check_first_batch(labels)
        targets = labels
        if self.mix is not None:
            images, targets = self.mix(images, labels)
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        outputs = self.net(images)
        logits = main_logits(outputs)
        loss = self._loss(logits, targets)
        for head in outputs[1:] if isinstance(outputs, tuple) else ():
            if head is not None and self.aux_weight:
                loss = loss + self.aux_weight * self._loss(head, targets)
        correct = {} if self.mix else {"acc": (logits.detach().argmax(1) == labels).sum()}
        self.track(loss, len(labels), **correct)
        return loss

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(
            logits, targets, weight=self.class_weights, label_smoothing=self.label_smoothing
        )

    def _check_first_batch(self, labels: Tensor) -> None:
        if int(labels.max()) >= self.num_classes or int(labels.min()) < 0:
            raise UserError(
                f"the data has a label {int(labels.max())} (smallest {int(labels.min())}), but "
                f"num_classes is {self.num_classes}: labels run from 0 to {self.num_classes - 1}"
            )

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Adds one batch to the validation figures."""
        labels = batch[1]
        logits = self(batch[0]).float()
        self.val_loss.update(F.cross_entropy(logits, labels, reduction="none"))
        self.val_metrics.update(logits, labels)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Adds one batch to the test figures and to what the pictures need."""
        images, labels = batch[0], batch[1]
        logits = self(images).float()
        probabilities = logits.softmax(dim=1)
        self.test_loss.update(F.cross_entropy(logits, labels, reduction="none"))
        self.test_metrics.update(probabilities, labels)
        self.test_views["confusion"].update(probabilities, labels)  # type: ignore[operator]
        self.test_views["reliability"].update(probabilities, labels)  # type: ignore[operator]
        self.test_views["wrong"].update(probabilities, labels, images)  # type: ignore[operator]

    def on_test_epoch_end(self) -> None:
        """Computes the test figures and keeps, on the host, what the pictures need."""
        self.test_pictures = {name: view.compute() for name, view in self.test_views.items()}  # type: ignore[operator]
        super().on_test_epoch_end()

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Probabilities ``(B, num_classes)`` and, where the data counts them, sample numbers."""
        result = {"probabilities": self(batch[0]).float().softmax(dim=1)}
        if hasattr(batch, "index"):
            result["index"] = batch.index
        return result


def main_logits(outputs: Any) -> Tensor:
    """The logits themselves, from a net that may give a tuple with auxiliary heads."""
    logits = outputs[0] if isinstance(outputs, tuple) else outputs
    assert isinstance(logits, Tensor)
    return logits


def _mixer(classes: int, mixup_alpha: float, cutmix_alpha: float) -> Any:
    """The MixUp and CutMix of torchvision that were asked for, or None."""
    from torchvision.transforms import v2

    mixers: list[Any] = []
    if mixup_alpha:
        mixers.append(v2.MixUp(alpha=mixup_alpha, num_classes=classes))
    if cutmix_alpha:
        mixers.append(v2.CutMix(alpha=cutmix_alpha, num_classes=classes))
    if not mixers:
        return None
    return mixers[0] if len(mixers) == 1 else v2.RandomChoice(mixers)
