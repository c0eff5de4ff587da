"""GoogLeNet, also known as Inception v1, in the three forms that people compare with."""

from functools import partial
from typing import ClassVar, Literal, NamedTuple, Unpack, get_args

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from datamodules.core.errors import one_of, refuse
from zoo.nets.checks import Stem, check_image_net, check_image_size, check_positive, choose_stem
from zoo.nets.layers.activations import ActivationName, make_activation
from zoo.nets.layers.conv import (
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

Layout = Literal["paper", "torchvision", "cifar"]

# Widths of an inception block: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection.
Widths = tuple[int, int, int, int, int, int]

# Table 1 of arXiv 1409.4842. The digit is the stage; a max pool halves the map between stages.
_FULL_BODY: dict[str, Widths] = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
# Tutorial 5 of the UvA deep-learning course.
_CIFAR_BODY: dict[str, Widths] = {
    "3a": (16, 32, 32, 16, 8, 8),
    "3b": (24, 32, 48, 16, 12, 12),
    "4a": (24, 32, 48, 16, 12, 12),
    "4b": (16, 32, 48, 16, 16, 16),
    "4c": (16, 32, 48, 16, 16, 16),
    "4d": (32, 32, 48, 16, 24, 24),
    "5a": (32, 48, 64, 16, 16, 16),
    "5b": (32, 48, 64, 16, 16, 16),
}


class _Published(NamedTuple):
    """What a layout publishes, and so what its options mean when left alone."""

    body: dict[str, Widths]
    stem_channels: int
    kernel_sizes: tuple[int, int]
    norm: NormName
    dropout: float
    aux_heads: bool


_LAYOUTS: dict[Layout, _Published] = {
    "paper": _Published(_FULL_BODY, 192, (3, 5), "none", 0.4, True),
    # torchvision's "5x5" branch has a 3x3 kernel, a known slip that its weights depend on:
    # https://github.com/pytorch/vision/issues/906
    "torchvision": _Published(_FULL_BODY, 192, (3, 3), "batch", 0.2, True),
    "cifar": _Published(_CIFAR_BODY, 64, (3, 5), "batch", 0.0, False),
}


# Below this many pixels a side some pool of the net would have nothing left to pool; and, second,
# the last map would be a single pixel.
_SMALLEST_IMAGE: dict[tuple[Layout, Stem], tuple[int, int]] = {
    ("paper", "small"): (4, 8),
    ("paper", "large"): (31, 63),
    ("torchvision", "small"): (2, 6),
    ("torchvision", "large"): (15, 47),
    ("cifar", "small"): (1, 5),
    ("cifar", "large"): (7, 39),
}
_AUX_DROPOUT = 0.7
_AUX_AFTER = {"inception4a": "aux1", "inception4d": "aux2"}


class GoogLeNetOutputs(NamedTuple):
    """Logits of the three heads, in training mode; laid out as torchvision's tuple of that name.

    Attributes:
        logits: Logits of the net's own head, ``(B, num_classes)``.
        aux_logits2: Logits of the head after block 4d, ``(B, num_classes)``.
        aux_logits1: Logits of the head after block 4a, ``(B, num_classes)``.
    """

    logits: Tensor
    aux_logits2: Tensor
    aux_logits1: Tensor


class InceptionBlock(nn.Module):
    """Four views of one feature map, side by side: 1x1, 3x3, 5x5 and a max pool.

    ``(B, in, H, W)`` becomes ``(B, c_1x1 + c_3x3 + c_5x5 + c_pool, H, W)``.

    Why the four can be concatenated: tensors concatenate along the channels when everything else
    about them agrees. B does. H and W do, because each branch runs at stride 1 with 'same' padding:
    a kernel of odd size k, padded by (k - 1) / 2 on every side, has exactly one position per input
    pixel, whatever k is, and so has the 3x3 pool, padded by 1. Only the channel counts differ, and
    those just add up. A kernel of even size has no such padding and makes the map grow by a pixel.

    The 1x1 convolutions before the wide kernels ("reduce") keep the block cheap: the wide kernel
    sees few channels.

    Source: Szegedy et al., arXiv 1409.4842, figure 2(b).

    Args:
        in_channels: Channels of the input.
        c_1x1: Channels of the 1x1 branch.
        reduce_3x3: Channels before the 3x3 convolution.
        c_3x3: Channels of the 3x3 branch.
        reduce_5x5: Channels before the 5x5 convolution.
        c_5x5: Channels of the 5x5 branch.
        c_pool: Channels after the pool, from its 1x1 projection.
        kernel_sizes: Kernels of the 3x3 and the 5x5 branch; must be odd, see above.
        settings: What goes to each ``ConvBlock``, such as ``norm``.

    Raises:
        ValueError: If a channel count or kernel size is not positive.
    """

    def __init__(
        self,
        in_channels: int,
        c_1x1: int,
        reduce_3x3: int,
        c_3x3: int,
        reduce_5x5: int,
        c_5x5: int,
        c_pool: int,
        *,
        kernel_sizes: tuple[int, int] = (3, 5),
        **settings: Unpack[ConvSettings],
    ) -> None:
        super().__init__()
        check_positive(
            in_channels=in_channels,
            c_1x1=c_1x1,
            reduce_3x3=reduce_3x3,
            c_3x3=c_3x3,
            reduce_5x5=reduce_5x5,
            c_5x5=c_5x5,
            c_pool=c_pool,
        )
        if min(kernel_sizes) < 1:
            raise refuse("kernel_sizes", kernel_sizes, "give positive odd ones, say (3, 5)")
        self.out_channels = c_1x1 + c_3x3 + c_5x5 + c_pool
        self.kernel_sizes = kernel_sizes
        conv = partial(ConvBlock, **settings)
        small, wide = kernel_sizes
        # Numbered, and nested just so, because those are the names in torchvision's state dict.
        self.branch1 = conv(in_channels, c_1x1, 1)
        self.branch2 = nn.Sequential(
            conv(in_channels, reduce_3x3, 1), conv(reduce_3x3, c_3x3, small)
        )
        self.branch3 = nn.Sequential(
            conv(in_channels, reduce_5x5, 1), conv(reduce_5x5, c_5x5, wide)
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1), conv(in_channels, c_pool, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, in, H, W)`` to ``(B, out, H, W)``.

        Raises:
            ValueError: If the branches disagree about H or W, as with a kernel of even size.
        """
        branches = [self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)]
        if any(branch.shape[2:] != x.shape[2:] for branch in branches):
            raise ValueError(self._mismatch(x, branches))
        return torch.cat(branches, dim=1)

    def _mismatch(self, x: Tensor, branches: list[Tensor]) -> str:
        small, wide = self.kernel_sizes
        names = ("1x1", f"{small}x{small}", f"{wide}x{wide}", "pool")
        sizes = ", ".join(
            f"the {name} branch {branch.shape[2]}x{branch.shape[3]}"
            for name, branch in zip(names, branches, strict=True)
        )
        return (
            f"InceptionBlock: from a map of {x.shape[2]}x{x.shape[3]} pixels came {sizes}, and "
            "branches can only be concatenated along the channels if all keep the height and "
            "width, which at stride 1 takes kernels of odd size k padded by (k - 1) / 2 "
            f"(now kernel_sizes={self.kernel_sizes})"
        )


class AuxHead(nn.Module):
    """A second classifier half-way up, which feeds gradient to the lower half while training.

    ``(B, in, H, W)`` to ``(B, num_classes)``: pool to 4x4, 1x1 convolution to 128 channels, 1024
    units, dropout, logits.

    Source: Szegedy et al., arXiv 1409.4842, section 5. The paper pools 5x5 at stride 3, which
    leaves 4x4 of the 14x14 that a 224-pixel image has become. Smaller maps have no room for that;
    they are pooled adaptively, as torchvision does with every map.

    Args:
        in_channels: Channels of the feature map.
        num_classes: Number of classes.
        fixed_pool: Pool as the paper does where the map is large enough.
        settings: What goes to the ``ConvBlock``, such as ``norm``; its activation follows the 1024
            units as well.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        fixed_pool: bool = False,
        **settings: Unpack[ConvSettings],
    ) -> None:
        super().__init__()
        self.fixed_pool = fixed_pool
        self.conv = ConvBlock(in_channels, 128, 1, **settings)
        self.fc1 = nn.Linear(128 * 4 * 4, 1024)
        self.activation = make_activation(settings.get("activation", "relu"), inplace=True)
        self.fc2 = nn.Linear(1024, num_classes)
        self.dropout = nn.Dropout(_AUX_DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, in, H, W)`` to logits ``(B, num_classes)``."""
        if self.fixed_pool and min(x.shape[2:]) >= 14:
            x = F.avg_pool2d(x, kernel_size=5, stride=3)
        x = F.adaptive_avg_pool2d(x, 4)  # leaves a map of 4x4 as it is
        x = torch.flatten(self.conv(x), start_dim=1)
        x = self.activation(self.fc1(x))
        logits: Tensor = self.fc2(self.dropout(x))
        return logits


class GoogLeNet(
    nn.Module,
    PyTorchModelHubMixin,
    paper_url="https://arxiv.org/abs/1409.4842",
    pipeline_tag="image-classification",
):
    """GoogLeNet (Inception v1), an image classifier made of inception blocks.

    Images ``(B, in_channels, H, W)`` become logits ``(B, num_classes)``.

    Source: Szegedy et al., "Going Deeper with Convolutions", arXiv 1409.4842. Three layouts:

    * ``paper``: the paper's table 1, with real 5x5 kernels, two auxiliary heads, biases and local
      response normalisation. The paper gives neither the constants of that normalisation nor the
      start values. The former are those of Caffe's reference net (size 5, alpha 1e-4, beta 0.75,
      k 1). The latter are those of He et al., arXiv 1502.01852, which keep a deep net without
      batch norm alive; Caffe took Xavier's with biases of 0.2.
    * ``torchvision``: ``torchvision.models.GoogLeNet``, whose state dict and weights load here
      unchanged. It departs from the paper: batch norm after every convolution and no biases, a
      3x3 kernel in the 5x5 branch, a last pool of 2x2 for 3x3, dropout of 0.2 for 0.4, and
      auxiliary heads that pool adaptively.
    * ``cifar``: the net of 260,650 parameters from tutorial 5 of the UvA deep-learning course
      (https://uvadlc-notebooks.readthedocs.io): narrow blocks (eight instead of nine), batch norm
      after convolutions that keep their biases, no dropout, no auxiliary heads.

    Deviations that the options bring, none of them published with the layout:

    * The small stem of ``paper`` and ``torchvision`` is one 3x3 convolution to 192 channels at
      full resolution, in the place of the first three convolutions and two pools. It is how
      GoogLeNet is commonly cut down to 32 pixels (in huyvnphan/PyTorch_CIFAR10 and
      kuangliu/pytorch-cifar). The later pools stay those of the layout.
    * The large stem of ``cifar`` is the paper's, narrowed to the 64 channels that the body takes.
    * Another ``norm`` than the layout's takes the place of local response normalisation as well.
      Without any, and with ``rms``, which has no bias of its own, convolutions have biases. Without
      any, they start from He et al. where torchvision's small start values would let the signal
      die out.
    * ``instance`` and ``frn`` make nothing, or a mere sign, of a map of one pixel; images so small
      are refused with them.

    In training mode with auxiliary heads ``forward`` returns a ``GoogLeNetOutputs``; the paper adds
    the losses of the auxiliary heads to the main one at a weight of 0.3.

    The constructor's arguments are recorded for ``save_pretrained`` and ``from_pretrained``, with
    ``weights=None`` and the ``transform_input`` that goes with them: a net whose own weights follow
    from a checkpoint needs no download.

    Args:
        in_channels: Channels of the images, 3 for colour.
        num_classes: Number of classes.
        layout: Whose GoogLeNet to build.
        stem: ``small`` does not down-sample, for images around 32 pixels; ``large`` does so
            eightfold, for images around 224 pixels; ``auto`` takes ``small`` up to 64 pixels.
        image_size: Pixels a side of the images, or ``[H, W]``. It only chooses and checks the stem;
            the net takes any size from the smallest on.
        norm: Normalisation after each convolution; ``auto`` takes what the layout publishes.
        num_groups: Groups of group normalisation; ``auto`` picks a count that divides each width.
        conv: Whether convolutions standardise their filters: ``ws`` goes with group
            normalisation, ``scaled_ws`` with none.
        activation: What follows each normalisation.
        dropout: Probability of dropping a feature before the last layer; by default what the
            layout publishes (paper 0.4, torchvision 0.2, cifar 0). Auxiliary heads keep their 0.7.
        aux_heads: Whether to train two auxiliary heads; by default what the layout publishes.
        weights: Pretrained weights, a name in torchvision's registry, such as IMAGENET1K_V1. For
            another number of classes than theirs the last layers start afresh. torchvision notes
            that the auxiliary heads in the file are not trained.
        transform_input: Whether images normalised with ImageNet's mean and deviation are brought
            to the range of -1 to 1, which the pretrained weights expect; by default only with
            ``weights``.

    Raises:
        ValueError: If an option's value does not fit, or two options do not fit each other.
        OptionError: If weights can be neither downloaded nor read.
    """

    #: Names of the modules that end in logits; all others are the backbone.
    head_names: ClassVar[tuple[str, ...]] = ("fc", "aux1", "aux2")

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1000,
        *,
        layout: Layout = "cifar",
        stem: Stem = "auto",
        image_size: int | list[int] = 32,
        norm: Literal["auto", NormName] = "auto",
        num_groups: int | Literal["auto"] = "auto",
        conv: ConvName = "plain",
        activation: ActivationName = "relu",
        dropout: float | None = None,
        aux_heads: bool | None = None,
        weights: str | None = None,
        transform_input: bool | None = None,
    ) -> None:
        super().__init__()
        one_of("layout", layout, get_args(Layout))
        one_of("norm", norm, ("auto", *get_args(NormName)))
        published = _LAYOUTS[layout]
        kind: NormName = published.norm if norm == "auto" else norm
        stem = choose_stem(stem, image_size)
        dropout = published.dropout if dropout is None else dropout
        aux_heads = published.aux_heads if aux_heads is None else aux_heads
        check_image_net(in_channels, num_classes, kind, dropout=dropout)
        smaller = ("layout 'cifar'",) if layout != "cifar" else ()
        check_image_size(image_size, _SMALLEST_IMAGE[layout, stem], stem, kind, *smaller)
        if aux_heads and layout == "cifar":
            remedy = "the cifar layout has no auxiliary heads; choose layout 'paper' or "
            raise refuse("aux_heads", True, remedy + "'torchvision'")
        entry = find_weights(
            weights,
            "googlenet",
            layout=layout,
            stem=stem,
            norm=kind,
            conv=conv,
            activation=activation,
            in_channels=in_channels,
        )
        transform_input = choose_transform_input(transform_input, weights, in_channels)
        settings: ConvSettings = {
            "norm": kind,
            "num_groups": num_groups,
            "conv": conv,
            "activation": activation,
            # It has no effect before batch norm; the tutorial's net has it still.
            "bias": layout == "cifar" or kind in WITHOUT_BIAS,
            "eps": 1e-3 if layout == "torchvision" and kind == "batch" else None,
        }

        # The names below are those of torchvision, so that its state dicts load unchanged.
        self.num_classes = num_classes
        self.transform_input = transform_input
        self.input_range = InputRange() if transform_input else None
        self._trunk: list[str] = []  # what an image passes through, in order, by name
        with_lrn = layout == "paper" and kind == "none"
        self._append(_make_stem(stem, in_channels, published.stem_channels, with_lrn, settings))
        self._append(_make_body(layout, settings))
        self.aux1: AuxHead | None = None
        self.aux2: AuxHead | None = None
        if aux_heads:
            make_head = partial(
                AuxHead, num_classes=num_classes, fixed_pool=layout == "paper", **settings
            )
            self.aux1 = make_head(_channels_after(published.body["4a"]))
            self.aux2 = make_head(_channels_after(published.body["4d"]))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(_channels_after(published.body["5b"]), num_classes)

        draw_start_values(self, 0.01 if layout == "torchvision" and kind != "none" else None)
        if entry is not None:
            load_pretrained(
                self,
                entry,
                heads=("fc.", "aux1.fc2.", "aux2.fc2."),
                absent=() if aux_heads else ("aux1.", "aux2."),
            )
            amend_record(self, transform_input=transform_input)

    def forward(self, x: Tensor) -> Tensor | GoogLeNetOutputs:
        """Classify images.

        Args:
            x: Images ``(B, in_channels, H, W)``.

        Returns:
            Logits ``(B, num_classes)``; in training mode with auxiliary heads, those of all three.
        """
        if self.input_range is not None:
            x = self.input_range(x)
        aux_logits: dict[str, Tensor] = {}
        for name in self._trunk:
            x = getattr(self, name)(x)
            if self.training and self.aux1 is not None and name in _AUX_AFTER:
                head = _AUX_AFTER[name]
                aux_logits[head] = getattr(self, head)(x)
        x = torch.flatten(self.avgpool(x), start_dim=1)
        logits: Tensor = self.fc(self.dropout(x))
        if aux_logits:
            return GoogLeNetOutputs(logits, aux_logits["aux2"], aux_logits["aux1"])
        return logits

    def _append(self, modules: dict[str, nn.Module]) -> None:
        """Pass images through these modules as well."""
        for name, module in modules.items():
            self.add_module(name, module)
            self._trunk.append(name)


def _make_stem(
    stem: Stem, in_channels: int, out_channels: int, with_lrn: bool, settings: ConvSettings
) -> dict[str, nn.Module]:
    """Build what comes before the inception blocks, with local response norms where asked for."""
    block = partial(ConvBlock, **settings)
    if stem == "small":
        parts = {"conv1": block(in_channels, out_channels, 3), "lrn1": _make_lrn()}
    else:
        parts = {
            "conv1": block(in_channels, 64, 7, stride=2),
            "maxpool1": nn.MaxPool2d(3, stride=2, ceil_mode=True),
            "lrn1": _make_lrn(),
            "conv2": block(64, 64, 1),
            "conv3": block(64, out_channels, 3),
            "lrn2": _make_lrn(),
            "maxpool2": nn.MaxPool2d(3, stride=2, ceil_mode=True),
        }
    return {name: part for name, part in parts.items() if with_lrn or not name.startswith("lrn")}


def _make_body(layout: Layout, settings: ConvSettings) -> dict[str, nn.Module]:
    """Build the inception blocks, and the pools that end a stage and halve the map."""
    published = _LAYOUTS[layout]
    parts: dict[str, nn.Module] = {}
    channels = published.stem_channels
    for name, widths in published.body.items():
        if name in ("4a", "5a"):
            stage_done = int(name[0]) - 1
            parts[f"maxpool{stage_done}"] = _make_pool(layout, stage_done)
        parts[f"inception{name}"] = InceptionBlock(
            channels, *widths, kernel_sizes=published.kernel_sizes, **settings
        )
        channels = _channels_after(widths)
    return parts


def _channels_after(widths: Widths) -> int:
    c_1x1, _, c_3x3, _, c_5x5, c_pool = widths
    return c_1x1 + c_3x3 + c_5x5 + c_pool


def _make_lrn() -> nn.Module:
    return nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)


def _make_pool(layout: Layout, stage: int) -> nn.Module:
    """Return the pool that ends a stage and halves the map."""
    if layout == "cifar":
        return nn.MaxPool2d(3, stride=2, padding=1)
    kernel_size = 2 if layout == "torchvision" and stage == 4 else 3
    return nn.MaxPool2d(kernel_size, stride=2, ceil_mode=True)
