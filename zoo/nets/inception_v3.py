"""Inception v3, whose blocks split wide kernels into stacks of narrow ones."""

from functools import partial
from typing import ClassVar, Literal, NamedTuple, Unpack

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from zoo.nets.checks import Stem, check_image_net, check_image_size, choose_stem
from zoo.nets.layers.activations import ActivationName
from zoo.nets.layers.conv import (
    PER_CHANNEL_AND_IMAGE,
    WITHOUT_BIAS,
    ConvBlock,
    ConvName,
    ConvSettings,
    draw_start_values,
)
from zoo.nets.layers.norms import NormName
from zoo.nets.pretrained.torchvision_weights import (
    InputRange,
    amend_record,
    choose_transform_input,
    find_weights,
    load_pretrained,
)

# Below this many pixels a side the last map would be empty; and, second, a single pixel.
_SMALLEST_IMAGE: dict[Stem, tuple[int, int]] = {"small": (7, 11), "large": (75, 107)}
_AUX_AFTER = "Mixed_6e"


class InceptionV3Outputs(NamedTuple):
    """Logits of both heads, in training mode; laid out as torchvision's ``InceptionOutputs``.

    Attributes:
        logits: Logits of the net's own head, ``(B, num_classes)``.
        aux_logits: Logits of the auxiliary head, ``(B, num_classes)``.
    """

    logits: Tensor
    aux_logits: Tensor


class InceptionA(nn.Module):
    """The block of the finest map, 35x35 of an image of 299: 5x5 as two 3x3.

    ``(B, in, H, W)`` becomes ``(B, 224 + pool_features, H, W)``. Two 3x3 kernels in a row see 5x5
    pixels, at ``2 * 9`` weights for 25::

        1x1 ──────────────── 64
        1x1 ── 5x5 ───────── 64
        1x1 ── 3x3 ── 3x3 ── 96
        avg ── 1x1 ───────── pool_features

    Source: Szegedy et al., arXiv 1512.00567, figure 5. Where the figure has a single 3x3 in one
    branch, TensorFlow's and torchvision's net has a 5x5.

    Args:
        in_channels: Channels of the input.
        pool_features: Channels after the pool, from its 1x1 projection.
        settings: What goes to each ``ConvBlock``, such as ``norm``.
    """

    def __init__(
        self, in_channels: int, pool_features: int, **settings: Unpack[ConvSettings]
    ) -> None:
        super().__init__()
        conv = partial(ConvBlock, **settings)
        self.out_channels = 64 + 64 + 96 + pool_features
        self.branch1x1 = conv(in_channels, 64, 1)

        self.branch5x5_1 = conv(in_channels, 48, 1)
        self.branch5x5_2 = conv(48, 64, 5)

        self.branch3x3dbl_1 = conv(in_channels, 64, 1)
        self.branch3x3dbl_2 = conv(64, 96, 3)
        self.branch3x3dbl_3 = conv(96, 96, 3)

        self.branch_pool = conv(in_channels, pool_features, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, in, H, W)`` to ``(B, out, H, W)``."""
        branches = [
            self.branch1x1(x),
            self.branch5x5_2(self.branch5x5_1(x)),
            self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x))),
            self.branch_pool(_average_neighbours(x)),
        ]
        return torch.cat(branches, dim=1)


class InceptionB(nn.Module):
    """Grid reduction from 35x35 to 17x17: convolutions of stride 2 beside a pool of stride 2.

    ``(B, in, H, W)`` becomes ``(B, 480 + in, H', W')``, where ``H' = (H - 3) // 2 + 1``. A pool
    before the block would lose what the narrower map cannot hold, a pool after it would have the
    block work on four times the pixels; side by side they do neither::

        3x3/2 ─────────────── 384
        1x1 ── 3x3 ── 3x3/2 ── 96
        max/2 ──────────────── in

    Source: Szegedy et al., arXiv 1512.00567, figure 10.

    Args:
        in_channels: Channels of the input.
        settings: What goes to each ``ConvBlock``, such as ``norm``.
    """

    def __init__(self, in_channels: int, **settings: Unpack[ConvSettings]) -> None:
        super().__init__()
        conv = partial(ConvBlock, **settings)
        self.out_channels = 384 + 96 + in_channels
        self.branch3x3 = conv(in_channels, 384, 3, stride=2, padding=0)

        self.branch3x3dbl_1 = conv(in_channels, 64, 1)
        self.branch3x3dbl_2 = conv(64, 96, 3)
        self.branch3x3dbl_3 = conv(96, 96, 3, stride=2, padding=0)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, in, H, W)`` to ``(B, out, H', W')``."""
        branches = [
            self.branch3x3(x),
            self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x))),
            F.max_pool2d(x, kernel_size=3, stride=2),
        ]
        return torch.cat(branches, dim=1)


class InceptionC(nn.Module):
    """The block of the middle map, 17x17: 7x7 as a row of seven and a column of seven.

    ``(B, in, H, W)`` becomes ``(B, 768, H, W)``. A 1x7 and a 7x1 kernel in a row see 7x7 pixels,
    at 14 weights for 49::

        1x1 ────────────────────────────── 192
        1x1 ── 1x7 ── 7x1 ──────────────── 192
        1x1 ── 7x1 ── 1x7 ── 7x1 ── 1x7 ── 192
        avg ── 1x1 ─────────────────────── 192

    Source: Szegedy et al., arXiv 1512.00567, figure 6 with n = 7.

    Args:
        in_channels: Channels of the input.
        channels_7x7: Channels between the narrow kernels.
        settings: What goes to each ``ConvBlock``, such as ``norm``.
    """

    def __init__(
        self, in_channels: int, channels_7x7: int, **settings: Unpack[ConvSettings]
    ) -> None:
        super().__init__()
        conv = partial(ConvBlock, **settings)
        inner = channels_7x7
        self.out_channels = 4 * 192
        self.branch1x1 = conv(in_channels, 192, 1)

        self.branch7x7_1 = conv(in_channels, inner, 1)
        self.branch7x7_2 = conv(inner, inner, (1, 7))
        self.branch7x7_3 = conv(inner, 192, (7, 1))

        self.branch7x7dbl_1 = conv(in_channels, inner, 1)
        self.branch7x7dbl_2 = conv(inner, inner, (7, 1))
        self.branch7x7dbl_3 = conv(inner, inner, (1, 7))
        self.branch7x7dbl_4 = conv(inner, inner, (7, 1))
        self.branch7x7dbl_5 = conv(inner, 192, (1, 7))

        self.branch_pool = conv(in_channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, in, H, W)`` to ``(B, 768, H, W)``."""
        twice = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        branches = [
            self.branch1x1(x),
            self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x))),
            self.branch7x7dbl_5(self.branch7x7dbl_4(twice)),
            self.branch_pool(_average_neighbours(x)),
        ]
        return torch.cat(branches, dim=1)


class InceptionD(nn.Module):
    """Grid reduction from 17x17 to 8x8, as ``InceptionB`` but with a 7x7 on the way.

    ``(B, in, H, W)`` becomes ``(B, 512 + in, H', W')``, where ``H' = (H - 3) // 2 + 1``::

        1x1 ── 3x3/2 ──────────────── 320
        1x1 ── 1x7 ── 7x1 ── 3x3/2 ── 192
        max/2 ─────────────────────── in

    Source: Szegedy et al., arXiv 1512.00567, figure 10 for the principle; the paper does not draw
    this one.

    Args:
        in_channels: Channels of the input.
        settings: What goes to each ``ConvBlock``, such as ``norm``.
    """

    def __init__(self, in_channels: int, **settings: Unpack[ConvSettings]) -> None:
        super().__init__()
        conv = partial(ConvBlock, **settings)
        self.out_channels = 320 + 192 + in_channels
        self.branch3x3_1 = conv(in_channels, 192, 1)
        self.branch3x3_2 = conv(192, 320, 3, stride=2, padding=0)

        self.branch7x7x3_1 = conv(in_channels, 192, 1)
        self.branch7x7x3_2 = conv(192, 192, (1, 7))
        self.branch7x7x3_3 = conv(192, 192, (7, 1))
        self.branch7x7x3_4 = conv(192, 192, 3, stride=2, padding=0)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, in, H, W)`` to ``(B, out, H', W')``."""
        wide = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        branches = [
            self.branch3x3_2(self.branch3x3_1(x)),
            self.branch7x7x3_4(wide),
            F.max_pool2d(x, kernel_size=3, stride=2),
        ]
        return torch.cat(branches, dim=1)


class InceptionE(nn.Module):
    """The block of the coarsest map, 8x8: 3x3 as a row and a column side by side.

    ``(B, in, H, W)`` becomes ``(B, 2048, H, W)``. The kernels fan out instead of following one
    another, which gives the last map more channels to tell images apart by::

        1x1 ──────────────────────── 320
        1x1 ──────── 1x3 and 3x1 ─── 384 + 384
        1x1 ── 3x3 ─ 1x3 and 3x1 ─── 384 + 384
        avg ── 1x1 ───────────────── 192

    Source: Szegedy et al., arXiv 1512.00567, figure 7.

    Args:
        in_channels: Channels of the input.
        settings: What goes to each ``ConvBlock``, such as ``norm``.
    """

    def __init__(self, in_channels: int, **settings: Unpack[ConvSettings]) -> None:
        super().__init__()
        conv = partial(ConvBlock, **settings)
        self.out_channels = 320 + 4 * 384 + 192
        self.branch1x1 = conv(in_channels, 320, 1)

        self.branch3x3_1 = conv(in_channels, 384, 1)
        self.branch3x3_2a = conv(384, 384, (1, 3))
        self.branch3x3_2b = conv(384, 384, (3, 1))

        self.branch3x3dbl_1 = conv(in_channels, 448, 1)
        self.branch3x3dbl_2 = conv(448, 384, 3)
        self.branch3x3dbl_3a = conv(384, 384, (1, 3))
        self.branch3x3dbl_3b = conv(384, 384, (3, 1))

        self.branch_pool = conv(in_channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, in, H, W)`` to ``(B, 2048, H, W)``."""
        once = self.branch3x3_1(x)
        twice = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        branches = [
            self.branch1x1(x),
            self.branch3x3_2a(once),
            self.branch3x3_2b(once),
            self.branch3x3dbl_3a(twice),
            self.branch3x3dbl_3b(twice),
            self.branch_pool(_average_neighbours(x)),
        ]
        return torch.cat(branches, dim=1)


class InceptionAux(nn.Module):
    """A second classifier on top of the last 17x17 map, used in training alone.

    ``(B, in, H, W)`` to ``(B, num_classes)``: pool to 5x5, 1x1 convolution to 128 channels, 5x5
    convolution to 768 channels and a single pixel, logits.

    Source: Szegedy et al., arXiv 1512.00567, figure 8. The pool is 5x5 at stride 3, which leaves
    5x5 of 17x17. Smaller maps have no room for that; they are pooled adaptively, which repeats
    pixels of a map below 5x5. ``instance`` and ``frn`` average over pixels, and the last map has
    one: after the 5x5 convolution they are replaced by ``layer``.

    Args:
        in_channels: Channels of the feature map.
        num_classes: Number of classes.
        settings: What goes to each ``ConvBlock``, such as ``norm``.
    """

    def __init__(
        self, in_channels: int, num_classes: int, **settings: Unpack[ConvSettings]
    ) -> None:
        super().__init__()
        self.conv0 = ConvBlock(in_channels, 128, 1, **settings)
        if settings.get("norm") in PER_CHANNEL_AND_IMAGE:
            settings["norm"] = "layer"
        self.conv1 = ConvBlock(128, 768, 5, padding=0, **settings)
        self.fc = nn.Linear(768, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, in, H, W)`` to logits ``(B, num_classes)``."""
        if min(x.shape[2:]) >= 17:
            x = F.avg_pool2d(x, kernel_size=5, stride=3)
        else:
            x = F.adaptive_avg_pool2d(x, 5)
        x = self.conv1(self.conv0(x))
        x = torch.flatten(F.adaptive_avg_pool2d(x, 1), start_dim=1)
        logits: Tensor = self.fc(x)
        return logits


class InceptionV3(
    nn.Module,
    PyTorchModelHubMixin,
    paper_url="https://arxiv.org/abs/1512.00567",
    pipeline_tag="image-classification",
):
    """Inception v3, an image classifier made of factorised inception blocks.

    Images ``(B, in_channels, H, W)`` become logits ``(B, num_classes)``.

    Source: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", arXiv
    1512.00567. With the large stem this is ``torchvision.models.Inception3``, whose state dict and
    weights load here unchanged: 27,161,264 parameters for 1000 classes, 3,326,696 of them in the
    auxiliary head. It departs from the paper's table 1 as TensorFlow's net of that name does:

    * Stem: 3x3 convolutions to 32 (stride 2), 32 and 64, a pool, a 1x1 convolution to 80, a 3x3 one
      to 192 and a second pool, where the table has a 3x3 for the 1x1, a stride for the second pool
      and one more 3x3. All but the third are without padding, as in the table.
    * Body: 3 blocks on 35x35 pixels, a reduction, 4 on 17x17, a reduction, 2 on 8x8. The table
      counts the reductions among 5 and 2.
    * One 5x5 kernel stays in each block of the finest map, see ``InceptionA``.
    * Batch norm adds 0.001 to the variance.

    torchvision's own departures: batch norm learns a scale and gives the newest batch a share of
    0.1 in the running averages (TensorFlow: no scale, 0.0003), average pools count the padding as
    zeros (TensorFlow: leave it out), and dropout is 0.5 (TensorFlow: 0.2).

    The paper's label smoothing (0.1) is the task's to apply, and so is the auxiliary head's weight
    in the loss (TensorFlow's is 0.4).

    Deviations that the options bring, none of them published by the authors:

    * The small stem is one 3x3 convolution to 192 channels at full resolution, in the place of the
      five convolutions and two pools, as in huyvnphan/PyTorch_CIFAR10. 32 pixels become maps of
      32, 15 and 7 pixels, where 299 become 35, 17 and 8. The auxiliary head, which that net does
      without, pools small maps adaptively.
    * Without norms, and with ``rms``, which has no bias of its own, convolutions have biases.
      Without norms they start from He et al., arXiv 1502.01852, because torchvision's start values
      rely on a norm.
    * ``instance`` and ``frn`` make nothing, or a mere sign, of a map of one pixel: images so small
      are refused with them, and the auxiliary head's last map has ``layer`` instead.

    In training mode with auxiliary head ``forward`` returns an ``InceptionV3Outputs``.

    The constructor's arguments are recorded for ``save_pretrained`` and ``from_pretrained``, with
    ``weights=None`` and the ``transform_input`` that goes with them: a net whose own weights follow
    from a checkpoint needs no download.

    Args:
        in_channels: Channels of the images, 3 for colour.
        num_classes: Number of classes.
        stem: ``small`` does not down-sample, for images around 32 pixels; ``large`` does so
            eightfold, for images around 299 pixels; ``auto`` takes ``small`` up to 64 pixels.
        image_size: Pixels a side of the images, or ``[H, W]``. It only chooses and checks the stem;
            the net takes any size from the smallest on.
        norm: Normalisation after each convolution.
        num_groups: Groups of group normalisation; ``auto`` picks a count that divides each width.
        conv: Whether convolutions standardise their filters: ``ws`` goes with group
            normalisation, ``scaled_ws`` with none.
        activation: What follows each normalisation.
        dropout: Probability of dropping a feature before the last layer.
        aux_heads: Whether to train an auxiliary head.
        weights: Pretrained weights, a name in torchvision's registry, such as IMAGENET1K_V1. For
            another number of classes than theirs the last layers start afresh.
        transform_input: Whether images normalised with ImageNet's mean and deviation are brought
            to the range of -1 to 1, which the pretrained weights expect; by default only with
            ``weights``.

    Raises:
        ValueError: If an option's value does not fit, or two options do not fit each other.
        OptionError: If weights can be neither downloaded nor read.
    """

    #: Names of the modules that end in logits; all others are the backbone.
    head_names: ClassVar[tuple[str, ...]] = ("fc", "AuxLogits")

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1000,
        *,
        stem: Stem = "auto",
        image_size: int | list[int] = 32,
        norm: NormName = "batch",
        num_groups: int | Literal["auto"] = "auto",
        conv: ConvName = "plain",
        activation: ActivationName = "relu",
        dropout: float = 0.5,
        aux_heads: bool = True,
        weights: str | None = None,
        transform_input: bool | None = None,
    ) -> None:
        super().__init__()
        stem = choose_stem(stem, image_size)
        check_image_net(in_channels, num_classes, norm, dropout=dropout)
        check_image_size(image_size, _SMALLEST_IMAGE[stem], stem, norm)
        entry = find_weights(
            weights,
            "inception_v3",
            stem=stem,
            norm=norm,
            conv=conv,
            activation=activation,
            in_channels=in_channels,
        )
        transform_input = choose_transform_input(transform_input, weights, in_channels)
        settings: ConvSettings = {
            "norm": norm,
            "num_groups": num_groups,
            "conv": conv,
            "activation": activation,
            "bias": norm in WITHOUT_BIAS,
            "eps": 1e-3 if norm == "batch" else None,
        }

        # The names below are those of torchvision, so that its state dicts load unchanged.
        self.num_classes = num_classes
        self.transform_input = transform_input
        self.input_range = InputRange() if transform_input else None
        self._trunk: list[str] = []  # what an image passes through, in order, by name
        self._append(_make_stem(stem, in_channels, settings))
        self._append(
            {  # pixels of an image of 299 at the end of the line
                "Mixed_5b": InceptionA(192, pool_features=32, **settings),
                "Mixed_5c": InceptionA(256, pool_features=64, **settings),
                "Mixed_5d": InceptionA(288, pool_features=64, **settings),  # 35
                "Mixed_6a": InceptionB(288, **settings),  # 17
                "Mixed_6b": InceptionC(768, channels_7x7=128, **settings),
                "Mixed_6c": InceptionC(768, channels_7x7=160, **settings),
                "Mixed_6d": InceptionC(768, channels_7x7=160, **settings),
                "Mixed_6e": InceptionC(768, channels_7x7=192, **settings),
            }
        )
        self.AuxLogits = InceptionAux(768, num_classes, **settings) if aux_heads else None
        self._append(
            {
                "Mixed_7a": InceptionD(768, **settings),  # 8
                "Mixed_7b": InceptionE(1280, **settings),
                "Mixed_7c": InceptionE(2048, **settings),
            }
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(2048, num_classes)

        draw_start_values(self, None if norm == "none" else 0.1)
        if norm != "none" and self.AuxLogits is not None:
            nn.init.trunc_normal_(self.AuxLogits.fc.weight, mean=0.0, std=0.001, a=-2, b=2)
        if entry is not None:
            load_pretrained(
                self,
                entry,
                heads=("fc.", "AuxLogits.fc."),
                absent=() if aux_heads else ("AuxLogits.",),
            )
            amend_record(self, transform_input=transform_input)

    def forward(self, x: Tensor) -> Tensor | InceptionV3Outputs:
        """Classify images.

        Args:
            x: Images ``(B, in_channels, H, W)``.

        Returns:
            Logits ``(B, num_classes)``; in training mode with auxiliary head, those of both.
        """
        if self.input_range is not None:
            x = self.input_range(x)
        aux_logits: Tensor | None = None
        for name in self._trunk:
            x = getattr(self, name)(x)
            if name == _AUX_AFTER and self.training and self.AuxLogits is not None:
                aux_logits = self.AuxLogits(x)
        x = torch.flatten(self.avgpool(x), start_dim=1)
        logits: Tensor = self.fc(self.dropout(x))
        return logits if aux_logits is None else InceptionV3Outputs(logits, aux_logits)

    def _append(self, modules: dict[str, nn.Module]) -> None:
        """Pass images through these modules as well."""
        for name, module in modules.items():
            self.add_module(name, module)
            self._trunk.append(name)


def _make_stem(stem: Stem, in_channels: int, settings: ConvSettings) -> dict[str, nn.Module]:
    """Build what comes before the inception blocks."""
    block = partial(ConvBlock, **settings)
    if stem == "small":
        return {"Conv2d_1a_3x3": block(in_channels, 192, 3)}
    return {  # pixels of an image of 299 at the end of the line
        "Conv2d_1a_3x3": block(in_channels, 32, 3, stride=2, padding=0),  # 149
        "Conv2d_2a_3x3": block(32, 32, 3, padding=0),  # 147
        "Conv2d_2b_3x3": block(32, 64, 3),  # 147
        "maxpool1": nn.MaxPool2d(3, stride=2),  # 73
        "Conv2d_3b_1x1": block(64, 80, 1),  # 73
        "Conv2d_4a_3x3": block(80, 192, 3, padding=0),  # 71
        "maxpool2": nn.MaxPool2d(3, stride=2),  # 35
    }


def _average_neighbours(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, kernel_size=3, stride=1, padding=1)
