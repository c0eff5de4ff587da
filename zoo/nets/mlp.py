"""A multi-layer perceptron, for tables and for small images."""

import math
from typing import ClassVar, Literal, get_args

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from datamodules.core.errors import one_of, refuse
from datamodules.core.options import height_and_width
from zoo.nets.checks import check_counts, check_rate
from zoo.nets.layers.activations import ActivationName, make_activation
from zoo.nets.layers.norms import NormName, make_norm

_WIDTHS = (256, 256)


class MLP(nn.Module, PyTorchModelHubMixin):
    """Multi-layer perceptron: fully connected layers, with an activation after each but the last.

    Rows of a table ``(B, in_channels)``, or images ``(B, in_channels, H, W)`` whose pixels are laid
    out in a row, become ``(B, num_classes)``: logits, or figures.

    Each hidden layer is ``dropout(activation(norm(W x + b)))``. Without hidden layers
    (``widths: []``) the net is linear: logistic regression as a classifier, else linear regression.

    Source: Rumelhart, Hinton & Williams, "Learning representations by back-propagating errors",
    Nature 323 (1986), doi 10.1038/323533a0; norm and dropout came later. Start values are torch's.

    Args:
        in_channels: Columns of the table, or channels of the images (3 for colour).
        num_classes: Number of outputs: classes, or 1 for regression.
        image_size: Pixels a side of the images, or ``[H, W]``; null for tables.
        widths: Units of each hidden layer, in order; by default two layers of 256.
        activation: What follows each hidden layer.
        dropout: Probability of dropping a unit of a hidden layer.
        norm: Normalisation before the activation; ``instance`` and ``frn``, which average over
            pixels, have no form for rows.
        num_groups: Groups of group normalisation; ``auto`` picks a count that divides each width.

    Raises:
        ValueError: If an option's value does not fit.
    """

    #: Names of the modules that end in logits; all others are the backbone.
    head_names: ClassVar[tuple[str, ...]] = ("fc",)

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 10,
        *,
        image_size: int | list[int] | None = None,
        widths: list[int] | None = None,
        activation: ActivationName = "relu",
        dropout: float = 0.0,
        norm: NormName = "none",
        num_groups: int | Literal["auto"] = "auto",
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        check_counts(in_channels, num_classes)
        one_of("activation", activation, get_args(ActivationName))
        one_of("norm", norm, get_args(NormName))
        check_rate("dropout", dropout)
        sides = () if image_size is None else height_and_width(image_size)
        if min(sides, default=1) < 1:
            raise refuse("image_size", image_size, "give 1 or more, or null for tables")
        layer_widths = _WIDTHS if widths is None else widths
        if min(layer_widths, default=1) < 1:
            raise refuse("widths", layer_widths, "give numbers of 1 or more, such as [256, 256]")

        self.image_size = image_size
        self.input_shape = (in_channels, *sides)
        features = in_channels * math.prod(sides)
        self.layers = nn.Sequential()
        for width in layer_widths:
            self.layers.append(nn.Linear(features, width))
            self.layers.append(make_norm(norm, width, num_groups=num_groups, ndim=2))
            self.layers.append(make_activation(activation, inplace=True))
            self.layers.append(nn.Dropout(dropout))
            features = width
        self.fc = nn.Linear(features, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify rows or images, or predict figures for them.

        Args:
            x: Rows ``(B, in_channels)`` or images ``(B, in_channels, H, W)``.

        Returns:
            Logits or figures ``(B, num_classes)``.

        Raises:
            ValueError: If ``x`` has another shape than the net was built for.
        """
        if x.shape[1:] != self.input_shape:
            raise ValueError(self._mismatch(x))
        logits: Tensor = self.fc(self.layers(torch.flatten(x, start_dim=1)))
        return logits

    def _mismatch(self, x: Tensor) -> str:
        """Why the net takes no such input."""
        kind = "tables" if self.image_size is None else "images"
        expected = ("B", *self.input_shape)
        return (
            f"image_size={self.image_size} makes an MLP for {kind} of shape {expected}, and the "
            f"input has shape {tuple(x.shape)}; give the data's own image_size (null for tables) "
            "and in_channels"
        )
