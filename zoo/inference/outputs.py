"""What is made of a net's logits where it is used: the same in a task, in a model, in an export.

Each kind of net has its answers: plain options, ``logits`` of what a batch holds, and
``of_logits``, which are what is predicted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datamodules.core.errors import refuse
from datamodules.core.protocols import HasLengths
from zoo.errors import UserError
from zoo.inference.tiling import predict_tiled, reach
from zoo.nets.outputs import main_logits

#: Views of an image whose logits are averaged.
Views = Literal["none", "flip", "flip_shift"]

_GUESSED_OVERLAP = 64


def probabilities_of(logits: Tensor, temperature: float = 1.0, *, several: bool = False) -> Tensor:
    """Return softmax of logits ``(B, C)`` over a temperature; sigmoid for several labels."""
    scaled = (logits if logits.dtype == torch.float64 else logits.float()) / temperature
    return scaled.sigmoid() if several else scaled.softmax(dim=1)


def averaged_over_views(net: nn.Module, images: Tensor, views: Views) -> Tensor:
    """Return logits of images ``(B, C, H, W)``, averaged over views of each.

    The image alone (``none``), also mirrored (``flip``), or both of these also shifted by a pixel
    up and left and down and right, at half the weight together (``flip_shift``, arXiv 2404.00498).

    Raises:
        OptionError: If the images have not the pixels to be shifted by.
    """
    if views == "none":
        return main_logits(net(images), net)
    height, width = images.shape[2:]
    check_shift(views, height, width)
    logits = _both_ways(net, images)
    if views == "flip":
        return logits
    padded = F.pad(images, (1, 1, 1, 1), mode="reflect")
    shifted = [padded[:, :, i : i + height, i : i + width] for i in (0, 2)]
    return 0.5 * logits + 0.25 * sum(_both_ways(net, view) for view in shifted)


def _both_ways(net: nn.Module, images: Tensor) -> Tensor:
    mirrored = main_logits(net(images.flip(3)), net)
    return 0.5 * (main_logits(net(images), net) + mirrored)


def check_shift(views: Views, height: int, width: int) -> None:
    """Refuse views that images of a size do not have.

    Raises:
        OptionError: If they are to be shifted, and cannot be.
    """
    if views == "flip_shift" and min(height, width) < 2:
        remedy = f"give flip or none: images of {height} x {width} pixels cannot be shifted"
        raise refuse("model.tta", views, remedy)


@dataclass(frozen=True)
class Answers:
    """What a net answers; a subclass for each kind.

    Options are those of the task, of the same names and defaults.
    """

    #: What a batch of predictions holds them under.
    kind: ClassVar[str]

    @classmethod
    def of_options(cls, options: Mapping[str, Any], facts: Mapping[str, Any]) -> Self:
        """Return the answers by a checkpoint's hyperparameters and what else it knows.

        Args:
            options: Its hyperparameters; others than this class's are passed over.
            facts: What training found out; they win.
        """
        known = {**options, **facts}
        return cls(**{each.name: known[each.name] for each in fields(cls) if each.name in known})

    def inputs(self, batch: Any) -> tuple[Tensor, ...]:
        """Return what of a batch the net takes."""
        return (batch[0],)

    def logits(self, net: nn.Module, *inputs: Tensor) -> Tensor:
        """Return what the net gives for them."""
        return main_logits(net(*inputs), net)

    def of_logits(self, logits: Tensor) -> Any:
        """Return what is predicted, an entry a sample."""
        raise NotImplementedError

    def predict(self, net: nn.Module, batch: Any) -> dict[str, Any]:
        """Return what is predicted of a batch, under ``kind``."""
        return {self.kind: self.of_logits(self.logits(net, *self.inputs(batch)))}


@dataclass(frozen=True)
class ClassAnswers(Answers):
    """The probability of each class, or of each of several labels, ``(B, C)``.

    Args:
        label_kind: ``multilabel`` where a sample has any number of labels.
        temperature: What logits are divided by; fitted to the validation split.
    """

    kind = "probabilities"
    label_kind: str = "multiclass"
    temperature: float = 1.0

    @property
    def several(self) -> bool:
        """Whether a sample has any number of labels."""
        return self.label_kind == "multilabel"

    def of_logits(self, logits: Tensor) -> Tensor:
        """Return probabilities ``(B, C)`` at the temperature."""
        return probabilities_of(logits, self.temperature, several=self.several)


@dataclass(frozen=True)
class ImageClassAnswers(ClassAnswers):
    """The same of images.

    Args:
        tta: See :func:`averaged_over_views`.
    """

    tta: Views = "none"

    def logits(self, net: nn.Module, *inputs: Tensor) -> Tensor:
        """Return logits of images ``(B, C, H, W)``, over the views of ``tta``."""
        return averaged_over_views(net, inputs[0], self.tta)


@dataclass(frozen=True)
class TextClassAnswers(ClassAnswers):
    """The same of texts, of which a net gets the tokens and their numbers without padding."""

    def inputs(self, batch: Any) -> tuple[Tensor, ...]:
        """Return tokens and, where the batch has them, lengths."""
        tokens: Tensor = batch[0]
        return (tokens, batch.lengths) if isinstance(batch, HasLengths) else (tokens,)

    def logits(self, net: nn.Module, *inputs: Tensor) -> Tensor:
        """Return logits of tokens ``(B, T)``."""
        tokens, lengths = inputs if len(inputs) == 2 else (inputs[0], None)
        return main_logits(net(tokens, lengths), net)


@dataclass(frozen=True)
class MaskAnswers(Answers):
    """The class of each pixel.

    Args:
        tile: Images with more pixels a side are evaluated in overlapping tiles.
    """

    kind = "masks"
    tile: int = 1024

    def logits(self, net: nn.Module, *inputs: Tensor) -> Tensor:
        """Return logits ``(B, C, H, W)``; of large images tile by tile, where no gradient is."""
        (images,) = inputs
        if max(images.shape[2:]) > self.tile and not net.training:
            return predict_tiled(net, images, self.tile, overlap_of(net))
        return main_logits(net(images), net)

    def of_logits(self, logits: Tensor) -> list[Tensor]:
        """Return a mask ``(H, W)`` for each image."""
        return list(logits.argmax(dim=1))


def overlap_of(net: nn.Module) -> int:
    """Return how many pixels tiles overlap by at each edge.

    As far as a pixel's prediction looks; of a net whose norms look at all of a tile, and of one
    that does not say, a guess, which makes the result an approximation.
    """
    radius, _ = reach(net)
    return _GUESSED_OVERLAP if radius is None else radius


@dataclass(frozen=True)
class NumberAnswers(Answers):
    """A number in its own unit.

    Args:
        target_mean: Mean of the training targets.
        target_std: Their standard deviation.
    """

    kind = "prediction"
    target_mean: float = 0.0
    target_std: float = 1.0

    def logits(self, net: nn.Module, *inputs: Tensor) -> Tensor:
        """Return what the net gives, ``(B,)``, in standard deviations from the mean.

        Raises:
            UserError: If the net gives no single number.
        """
        outputs = main_logits(net(*inputs), net)
        if outputs.ndim != 2 or outputs.shape[1] != 1:
            raise UserError(
                f"option model.net gives {tuple(outputs.shape)} for {len(inputs[0])} samples, but "
                "a Regressor needs one number each: (B, 1); set the net's number of outputs to 1"
            )
        column: Tensor = outputs[:, 0]
        # In half precision the target's own unit would be rounded, or beyond its range.
        return column.float() if column.dtype.itemsize < 4 else column

    def of_logits(self, logits: Tensor) -> Tensor:
        """Return numbers ``(B,)`` in the target's own unit, float64."""
        exact = logits.cpu() if logits.device.type == "mps" else logits  # which has no float64
        return exact.double() * self.target_std + self.target_mean
