"""U-Net, which labels every pixel of an image."""

from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from datamodules.core.errors import one_of, refuse
from zoo.nets.checks import check_counts, check_rate
from zoo.nets.layers.activations import ActivationName
from zoo.nets.layers.conv import WITHOUT_BIAS, ConvBlock, ConvName, ConvSettings
from zoo.nets.layers.norms import NormName

Upsampling = Literal["transpose", "bilinear"]

# In evaluation these treat each pixel alone; all others average over the whole image.
_LOCAL_NORMS: tuple[NormName, ...] = ("batch", "none")


class UpBlock(nn.Module):
    """Doubles a map and halves its channels: ``(B, 2 C, H, W)`` to ``(B, C, 2 H, 2 W)``.

    ``transpose`` is the paper's 2x2 up-convolution with stride 2; ``bilinear`` is a 1x1 convolution
    and then bilinear interpolation, the order of which makes no difference but for the work.

    Args:
        channels: Channels ``C`` of the output.
        up: How.
    """

    def __init__(self, channels: int, up: Upsampling) -> None:
        super().__init__()
        self.conv: nn.ConvTranspose2d | nn.Conv2d
        if up == "transpose":
            self.conv = nn.ConvTranspose2d(2 * channels, channels, 2, stride=2)
        else:
            self.conv = nn.Conv2d(2 * channels, channels, 1)
        self.interpolate = up == "bilinear"
        # No activation follows, so the gain is 1, and each output has 2 C incoming values (torch
        # would count the four outputs of an up-convolution together).
        nn.init.normal_(self.conv.weight, std=(2 * channels) ** -0.5)
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, 2 C, H, W)`` to ``(B, C, 2 H, 2 W)``."""
        y: Tensor = self.conv(x)
        return F.interpolate(y, scale_factor=2, mode="bilinear") if self.interpolate else y


class UNet(
    nn.Module,
    PyTorchModelHubMixin,
    paper_url="https://arxiv.org/abs/1505.04597",
    pipeline_tag="image-segmentation",
):
    """U-Net: an encoder and a decoder whose maps of equal size are joined.

    Images ``(B, in_channels, H, W)`` become logits ``(B, num_classes, H, W)``, one per pixel. Any H
    and W will do. The image is padded on the right and at the bottom to a multiple of ``2**depth``,
    and to twice that at least, so that no norm meets a map of one pixel; what belongs to the
    padding is cut off again. It continues the image by reflection, or, where the image has not
    enough pixels to reflect, by its last row and column.

    Each of ``depth`` stages has two 3x3 convolutions and a 2x2 max pool; the channels double from
    stage to stage, from ``width`` on. Two more convolutions at the bottom, then the way back: the
    map is doubled, put beside the encoder's map of its size, and convolved twice.

    Source: Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation",
    arXiv 1505.04597; the paper's net is ``depth=4, width=64, norm="none"``. Deviations:

    * Convolutions are padded with zeros, so that the logits have the size of the image; the paper's
      lose the border and tile the image instead. :func:`zoo.inference.tiling.predict_tiled` tiles.
    * There may be a norm between convolution and activation, as in nearly all later work.
    * ``bilinear`` upsampling, see :class:`UpBlock`.
    * Dropout acts on the map at the bottom only; the paper has it "at the end of the contracting
      path" without a number.

    Start values are the paper's, normal with variance ``2 / N`` for ``N`` incoming values (He et
    al., arXiv 1502.01852), and ``1 / N`` where no activation follows; biases start at 0.

    Args:
        in_channels: Channels of the images, 3 for colour.
        num_classes: Number of classes, the background included.
        depth: Times that the map is halved.
        width: Channels of the first stage.
        norm: Normalisation after each 3x3 convolution.
        num_groups: Groups of ``norm: group``; ``auto`` takes a count that divides.
        conv: Kind of the 3x3 convolutions: ``plain``, ``ws`` (standardised filters, to go with
            group norm) or ``scaled_ws`` (to go without any norm).
        activation: Activation.
        dropout: Probability of dropping a value of the map at the bottom.
        up: How the decoder doubles a map.

    Raises:
        ValueError: If an option's value does not fit, or two options do not fit each other.
    """

    #: How the names of the last layers start, which are new for new classes.
    head_names: ClassVar[tuple[str, ...]] = ("head",)

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 2,
        *,
        depth: int = 4,
        width: int = 32,
        norm: NormName = "batch",
        num_groups: int | Literal["auto"] = "auto",
        conv: ConvName = "plain",
        activation: ActivationName = "relu",
        dropout: float = 0.0,
        up: Upsampling = "transpose",
    ) -> None:
        super().__init__()
        check_counts(in_channels, num_classes)
        one_of("norm", norm, get_args(NormName))
        one_of("up", up, get_args(Upsampling))
        check_rate("dropout", dropout)
        for option, count in (("depth", depth), ("width", width)):
            if count < 1:
                raise refuse(option, count, "give 1 or more (the paper's net has 4, 64)")
        self.num_classes = num_classes
        self.depth = depth
        self.norm = norm
        self.upsampling = up
        settings: ConvSettings = {
            "norm": norm,
            "num_groups": num_groups,
            "conv": conv,
            "activation": activation,
            "bias": norm in WITHOUT_BIAS,
        }

        def two_convolutions(before: int, after: int) -> nn.Sequential:
            return nn.Sequential(
                ConvBlock(before, after, 3, **settings), ConvBlock(after, after, 3, **settings)
            )

        widths = [width * 2**level for level in range(depth + 1)]
        self.encoder = nn.ModuleList()
        self.ups = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for before, after in zip([in_channels, *widths], widths[:-1], strict=False):
            self.encoder.append(two_convolutions(before, after))
            self.ups.append(UpBlock(after, up))
            self.decoder.append(two_convolutions(2 * after, after))
        self.pool = nn.MaxPool2d(2)
        self.bottom = two_convolutions(widths[-2], widths[-1])
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Conv2d(width, num_classes, 1)
        self._init_parameters()

    @property
    def downsampling(self) -> int:
        """How many pixels of the image one pixel at the bottom stands for, a side."""
        return 1 << self.depth

    @property
    def receptive_field(self) -> int | None:
        """How many pixels away the image may still influence a pixel's logits, in evaluation.

        Computed backwards through the longest path, for each place that a pixel may have in the
        grid of the pools. None stands for the whole image: layer, group, instance, rms and frn
        norm have statistics over all of it. In training batch norm has, too.
        """
        if self.norm not in _LOCAL_NORMS:
            return None
        seen = [(pixel, *self._sees(pixel)) for pixel in range(self.downsampling)]
        return max(max(pixel - low, high - pixel) for pixel, low, high in seen)

    def _sees(self, pixel: int) -> tuple[int, int]:
        """Return the first and the last pixel along one axis that this one's logits depend on."""
        low = high = pixel
        for _ in range(self.depth):
            low, high = low - 2, high + 2  # two 3x3 convolutions of the decoder
            # Interpolation reads the neighbours on both sides as well.
            reach = 1 if self.upsampling == "bilinear" else 0
            low, high = (low - reach) // 2, (high + reach) // 2
        low, high = low - 2, high + 2  # those at the bottom
        for _ in range(self.depth):
            low, high = 2 * low, 2 * high + 1  # the pool
            low, high = low - 2, high + 2  # those of the encoder
        return low, high

    def forward(self, x: Tensor) -> Tensor:
        """Label each pixel.

        Args:
            x: Images ``(B, in_channels, H, W)``.

        Returns:
            Logits ``(B, num_classes, H, W)``.
        """
        height, width = x.shape[2:]
        x = self._pad(x)
        skips = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
            x = self.pool(x)
        x = self.dropout(self.bottom(x))
        for level in reversed(range(self.depth)):
            x = torch.cat([skips[level], self.ups[level](x)], dim=1)
            x = self.decoder[level](x)
        logits: Tensor = self.head(x)
        return logits[:, :, :height, :width]

    def _pad(self, x: Tensor) -> Tensor:
        sides, step = x.shape[2:], self.downsampling
        # On the right and at the bottom alone, so that the pools' grid starts at the first pixel.
        below, right = (max(-(-side // step), 2) * step - side for side in sides)
        if not below and not right:
            return x
        reflects = below < sides[0] and right < sides[1]
        return F.pad(x, (0, right, 0, below), mode="reflect" if reflects else "replicate")

    def _init_parameters(self) -> None:
        for module in self.modules():
            if isinstance(module, ConvBlock):
                nn.init.kaiming_normal_(module.conv.weight, nonlinearity="relu")
                if module.conv.bias is not None:
                    nn.init.zeros_(module.conv.bias)
        nn.init.normal_(self.head.weight, std=self.head.in_channels**-0.5)
        assert self.head.bias is not None
        nn.init.zeros_(self.head.bias)
