"""Image classification."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from datamodules.core.errors import at_least, refuse
from datamodules.core.protocols import HasInputShape, SupportsSampleImages, data_of
from zoo.inference.outputs import ImageClassAnswers, Views, check_shift
from zoo.metrics.collectors import MostWrong
from zoo.nets.outputs import auxiliary_logits
from zoo.nets.protocols import Whitens
from zoo.tasks.base import Stage
from zoo.tasks.classifier import Classifier
from zoo.tasks.logged import Logged


class ImageClassifier(Classifier):
    """Puts an image into one of several classes, or gives it any number of labels.

    A batch starts with images ``(B, C, H, W)``, floats, and labels. A net with auxiliary heads
    gives, in training, a tuple of the logits and the heads' logits, as torchvision's GoogLeNet and
    Inception v3 do.

    Args:
        net: The network.
        aux_weight: Factor on each auxiliary head's loss; 0.3 in GoogLeNet (arXiv 1409.4842).
        mixup_alpha: Blends pairs of images and labels by a Beta(alpha, alpha) draw
            (arXiv 1710.09412); 0 switches it off.
        cutmix_alpha: Pastes a box of one image into another (arXiv 1905.04899); 0 switches it off.
            With both, each batch draws one of the two.
        tta: Views of an image whose logits are averaged in validation, test and prediction: the
            image alone, also mirrored (``flip``), or both of these also shifted by a pixel up and
            left and down and right, at half the weight together (``flip_shift``,
            arXiv 2404.00498).
        channels_last: Keeps images in the memory order that convolutions like best.
        kwargs: The options of :class:`~zoo.tasks.classifier.Classifier`.

    Raises:
        OptionError: If an option lies outside what it may be.
    """

    has_dynamic_shapes: ClassVar[bool | None] = False
    logged: ClassVar[Logged] = Classifier.logged._replace(
        pictures=("batch", *Classifier.logged.pictures, "wrong"),
        tables=(*Classifier.logged.tables, "wrong_predictions"),
    )

    def __init__(
        self,
        net: nn.Module,
        *,
        aux_weight: float = 0.3,
        mixup_alpha: float = 0.0,
        cutmix_alpha: float = 0.0,
        tta: Literal["none", "flip", "flip_shift"] = "none",
        channels_last: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(net, **kwargs)
        for name, alpha in (("mixup_alpha", mixup_alpha), ("cutmix_alpha", cutmix_alpha)):
            at_least(name, alpha, 0)
        if self.multilabel and (mixup_alpha or cutmix_alpha):
            option = "mixup_alpha" if mixup_alpha else "cutmix_alpha"
            raise refuse(
                option,
                mixup_alpha or cutmix_alpha,
                "give 0 for multilabel data, as only one label a sample can be mixed",
            )
        self.aux_weight = at_least("aux_weight", aux_weight, 0)
        self._has_aux_heads = False  # as far as is known
        self.mixup_alpha, self.cutmix_alpha = mixup_alpha, cutmix_alpha
        self.mixer = _mixer(self.num_classes, mixup_alpha, cutmix_alpha)
        self.tta: Views = tta
        self.channels_last = channels_last
        if channels_last:
            net.to(memory_format=torch.channels_last)

    def training_loss_options(self) -> list[str]:
        """Add mixed samples and auxiliary heads."""
        own = {
            "mixup_alpha": self.mixup_alpha,
            "cutmix_alpha": self.cutmix_alpha,
            "aux_weight": self.aux_weight and self._has_aux_heads,
        }
        return super().training_loss_options() + [name for name, given in own.items() if given]

    def build_collectors(self, stage: Stage) -> dict[str, Metric]:
        """Add the images that a test got most wrong."""
        collectors = super().build_collectors(stage)
        if stage == "test":
            collectors["wrong"] = MostWrong()
        return collectors

    def collector_inputs(
        self, name: str, logits: Tensor, probabilities: Tensor, labels: Tensor, batch: Any
    ) -> tuple[Tensor, ...]:
        """Return what a test batch adds to a collector."""
        given = super().collector_inputs(name, logits, probabilities, labels, batch)
        return (*given, batch[0]) if name == "wrong" else given

    def on_train_start(self) -> None:
        """Give a net with a whitening first layer the images to compute it from."""
        super().on_train_start()
        starts = self.global_step == 0 and "net.whitening.weight" not in self.taken
        if starts and isinstance(self.net, Whitens) and self.net.whiten:
            data = data_of(self.trainer)
            if not isinstance(data, SupportsSampleImages):
                raise refuse(
                    "model.net.whiten",
                    True,
                    "leave it out, or take a data module of the zoo, whose training images it is "
                    "computed from",
                )
            self.net.init_whitening(data.sample_images(5000).to(self.device))

    def setup(self, stage: str) -> None:
        """Refuse views that the data's images do not have, before anything is trained."""
        super().setup(stage)
        data = data_of(self.trainer)
        if isinstance(data, HasInputShape) and len(data.input_shape) == 3:
            check_shift(self.tta, *data.input_shape[1:])

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(B, num_classes)`` of images, over the views of ``tta``."""
        return self.answers().logits(self.net, images)

    def answers(self) -> ImageClassAnswers:
        """Return how predictions are made of images."""
        return ImageClassAnswers(self.label_kind, self.temperature, self.tta)

    def mix(self, inputs: tuple[Tensor, ...], labels: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Mix images and labels where that is asked for."""
        images, targets = inputs[0], labels
        if self.mixer is not None:
            images, targets = self.mixer(images, labels)
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return (images,), targets

    def total_loss(self, outputs: Any, targets: Tensor) -> Tensor:
        """Return the loss of the main head and, weighted, of auxiliary ones."""
        loss = super().total_loss(outputs, targets)
        for head in auxiliary_logits(outputs):
            self._has_aux_heads = True
            # At weight 0 too: DDP waits for the gradient of each parameter.
            loss = loss + self.aux_weight * self.loss(head, targets)
        return loss


def _mixer(classes: int, mixup_alpha: float, cutmix_alpha: float) -> Any:
    """Return the MixUp and CutMix of torchvision that were asked for, or None."""
    from torchvision.transforms import v2

    mixers: list[Any] = []
    if mixup_alpha:
        mixers.append(v2.MixUp(alpha=mixup_alpha, num_classes=classes))
    if cutmix_alpha:
        mixers.append(v2.CutMix(alpha=cutmix_alpha, num_classes=classes))
    if not mixers:
        return None
    return mixers[0] if len(mixers) == 1 else v2.RandomChoice(mixers)
