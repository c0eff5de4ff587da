"""Residual networks, for small images and for ImageNet's, before or after the activation."""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from datamodules.core.errors import one_of, refuse
from zoo.nets.checks import Stem, check_image_net, check_image_size, choose_stem
from zoo.nets.layers.activations import ActivationName, activation_gain, make_activation
from zoo.nets.layers.conv import ConvName, ScaledWSConv2d, check_conv, make_conv
from zoo.nets.layers.norms import NormName, make_norm
from zoo.nets.pretrained.torchvision_weights import find_weights, load_pretrained

Depth = Literal[20, 32, 44, 56, 110, 18, 34, 50, 101]

_EXPANSION = 4  # what a bottleneck block's last convolution multiplies the width by
_WHITENING_SIDE = 2
_WHITENING_EPS = 5e-4  # airbench's


class _Published(NamedTuple):
    """What one depth is made of."""

    blocks: tuple[int, ...]  # in each stage
    widths: tuple[int, ...]
    bottleneck: bool
    projection: bool  # else shortcuts have no parameters


def _cifar(depth: int) -> _Published:
    """Return the net of section 4.2: three stages of n blocks, 6 n + 2 layers."""
    return _Published((depth // 6,) * 3, (16, 32, 64), bottleneck=False, projection=False)


def _imagenet(*blocks: int, bottleneck: bool) -> _Published:
    """Return a column of table 1."""
    return _Published(blocks, (64, 128, 256, 512), bottleneck, projection=True)


_DEPTHS: dict[int, _Published] = {
    **{depth: _cifar(depth) for depth in (20, 32, 44, 56, 110)},
    18: _imagenet(2, 2, 2, 2, bottleneck=False),
    34: _imagenet(3, 4, 6, 3, bottleneck=False),
    50: _imagenet(3, 4, 6, 3, bottleneck=True),
    101: _imagenet(3, 4, 23, 3, bottleneck=True),
}


class Layers(NamedTuple):
    """What all blocks of a net have in common.

    Attributes:
        norm: Normalisation beside each convolution.
        num_groups: Its groups, if it has any.
        conv: Kind of convolution.
        activation: Activation.
        pre_activation: Whether norm and activation come before a convolution instead of after.
        residual: Whether a block's input is added to what its convolutions make of it.
    """

    norm: NormName = "batch"
    num_groups: int | Literal["auto"] = "auto"
    conv: ConvName = "plain"
    activation: ActivationName = "relu"
    pre_activation: bool = False
    residual: bool = True

    def make_conv(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1
    ) -> nn.Conv2d:
        """Return a convolution padded by half its kernel, with a bias where no norm has one."""
        return make_conv(
            self.conv,
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            bias=self.norm == "none",
        )

    def make_norm(self, num_channels: int) -> nn.Module:
        """Return the norm, with its own defaults."""
        return make_norm(self.norm, num_channels, num_groups=self.num_groups)

    def make_activation(self) -> nn.Module:
        """Return the activation, in place where what it overwrites is used by nothing else."""
        overwrites_shortcut = self.pre_activation and self.norm == "none"
        return make_activation(self.activation, inplace=not overwrites_shortcut)


class PaddedShortcut(nn.Module):
    """The shortcut without parameters: every second pixel, and zeros for the new channels.

    ``(B, in, H, W)`` becomes ``(B, out, ceil(H / stride), ceil(W / stride))``. Option A in section
    4.1 of arXiv 1512.03385. Which of the new channels get the zeros is left open there; here it is
    half of them before and half after, as in akamaster/pytorch_resnet_cifar10.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output, at least as many.
        stride: Step between the pixels that are kept.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        before = (out_channels - in_channels) // 2
        self.channels_padded = (before, out_channels - in_channels - before)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, in, H, W)`` to ``(B, out, H', W')``."""
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, *self.channels_padded))


class ResidualBlock(nn.Module):
    """A few convolutions whose result is added to their input.

    ``(B, in, H, W)`` becomes ``(B, out, ceil(H / stride), ceil(W / stride))``:

    * after the activation, ``act(shortcut(x) + norm(conv(act(norm(conv(x))))))``;
    * before it (pre-activation), ``shortcut(x) + conv(act(norm(conv(act(norm(x))))))``, and where
      the shortcut changes the shape it starts from ``act(norm(x))``, as in the authors' code.

    A basic block has two 3x3 convolutions; a bottleneck block one of 1x1, one of 3x3 at a quarter
    of the channels and one of 1x1. Without norms, the sum is ``shortcut(x) + gain * branch``, with
    one learned number that starts at zero (SkipInit, De & Smith, arXiv 2002.10444), and so the
    block starts as its shortcut. A plain block (``layers.residual`` false) is its branch alone.

    Sources: He et al., arXiv 1512.03385, figures 2 and 5; pre-activation: He et al., arXiv
    1603.05027, figure 4(e). A bottleneck block has its stride in the 3x3 convolution, as
    torchvision and most others do, where the paper has it in the first 1x1.

    Args:
        in_channels: Channels of the input.
        width: Channels inside; also those of the output of a basic block.
        bottleneck: Which of the two blocks.
        stride: Step of the 3x3 convolution (the first one of a basic block).
        projection: Whether a shortcut that changes the shape is a 1x1 convolution; otherwise it
            is a :class:`PaddedShortcut`.
        drop_path: Probability of skipping the branch for an image of the batch, in training.
        layers: What all blocks of a net have in common.
    """

    conv1: nn.Module
    bn1: nn.Module
    skip_gain: nn.Parameter | None

    def __init__(
        self,
        in_channels: int,
        width: int,
        *,
        bottleneck: bool = False,
        stride: int = 1,
        projection: bool = True,
        drop_path: float = 0.0,
        layers: Layers = Layers(),  # noqa: B008, it is immutable
    ) -> None:
        super().__init__()
        self.pre_activation = layers.pre_activation
        self.residual = layers.residual
        self.out_channels = width * _EXPANSION if bottleneck else width
        kernels = (1, 3, 1) if bottleneck else (3, 3)
        strides = (1, stride, 1) if bottleneck else (stride, 1)
        channels = (in_channels, *(width for _ in kernels[1:]), self.out_channels)

        # The names are those of torchvision, so that its state dicts load unchanged; it says bn
        # whatever the kind of norm.
        self.num_convs = len(kernels)
        for i, (kernel, step) in enumerate(zip(kernels, strides, strict=True)):
            before, after = channels[i], channels[i + 1]
            self.add_module(f"conv{i + 1}", layers.make_conv(before, after, kernel, step))
            norm = layers.make_norm(before if layers.pre_activation else after)
            self.add_module(f"bn{i + 1}", norm)
        self.act = layers.make_activation()

        self.downsample: nn.Module | None = None
        if self.residual and (stride != 1 or in_channels != self.out_channels):
            if projection:
                convolution = layers.make_conv(in_channels, self.out_channels, 1, stride)
                own_norm = [] if layers.pre_activation else [layers.make_norm(self.out_channels)]
                self.downsample = nn.Sequential(convolution, *own_norm)
            else:
                self.downsample = PaddedShortcut(in_channels, self.out_channels, stride)

        self.drop_path: nn.Module | None = None
        if drop_path > 0:
            from torchvision.ops import StochasticDepth

            self.drop_path = StochasticDepth(drop_path, mode="row")
        gain = nn.Parameter(torch.zeros(1)) if layers.norm == "none" and self.residual else None
        self.register_parameter("skip_gain", gain)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, in, H, W)`` to ``(B, out, H', W')``."""
        if self.pre_activation:
            y = self.act(self.bn1(x))
            shortcut = x if self.downsample is None else self.downsample(y)
            y = self.conv1(y)
            for conv, norm in self._convs_and_norms(start=2):
                y = conv(self.act(norm(y)))
            return self._add(shortcut, y)

        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.bn1(self.conv1(x))
        for conv, norm in self._convs_and_norms(start=2):
            y = norm(conv(self.act(y)))
        joined: Tensor = self.act(self._add(shortcut, y))
        return joined

    def _convs_and_norms(self, start: int) -> list[tuple[nn.Module, nn.Module]]:
        numbers = range(start, self.num_convs + 1)
        return [(getattr(self, f"conv{i}"), getattr(self, f"bn{i}")) for i in numbers]

    def _add(self, shortcut: Tensor, branch: Tensor) -> Tensor:
        if not self.residual:
            return branch
        if self.drop_path is not None:
            branch = self.drop_path(branch)
        if self.skip_gain is not None:
            return torch.addcmul(shortcut, branch, self.skip_gain)
        branch += shortcut
        return branch


class ResNet(
    nn.Module,
    PyTorchModelHubMixin,
    paper_url="https://arxiv.org/abs/1512.03385",
    pipeline_tag="image-classification",
):
    """ResNet, an image classifier made of residual blocks.

    Images ``(B, in_channels, H, W)`` become logits ``(B, num_classes)``.

    Source: He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385. The depth
    chooses the family:

    * 20, 32, 44, 56, 110: the nets of section 4.2, for CIFAR's 32 pixels: three stages of basic
      blocks, 16, 32 and 64 channels wide, with shortcuts that have no parameters. 0.27, 0.46, 0.66,
      0.85 and 1.7 million parameters.
    * 18, 34, 50, 101: the nets of table 1, for ImageNet: four stages, 64 to 512 wide, basic blocks
      up to 34, bottleneck blocks from 50. With the large stem they are torchvision's, whose state
      dicts and weights load here unchanged. torchvision departs from the paper in having a
      bottleneck block's stride in its 3x3 convolution.

    Deviations that the options bring:

    * ``stem``: a small stem for the ImageNet family is one 3x3 convolution at full resolution
      without a pool, the usual ResNet-18 for CIFAR (kuangliu/pytorch-cifar). A large stem for the
      CIFAR family is ImageNet's, narrowed to 16 channels.
    * ``norm: none``: convolutions have biases, and every branch is multiplied by a learned number
      that starts at zero (arXiv 2002.10444). With ``conv: scaled_ws`` this is close to the nets of
      arXiv 2101.08692; their factors alpha and beta are left out, because post-activation has no
      place for them and the learned number takes their part. The convolutions' gains start at the
      activation's (:func:`~zoo.nets.layers.activations.activation_gain`), which is where the paper
      has the same factor.
    * ``pre_activation``: arXiv 1603.05027. The stem is a convolution alone, then, and one norm and
      activation come before the last pool. The paper puts an activation after the stem as well.
      Shortcuts of the CIFAR family stay without parameters, where the authors' code has
      projections.
    * ``residual: false``: the plain nets that section 4 compares with, the same layers without any
      shortcut.
    * ``drop_path``: stochastic depth by the linear rule of arXiv 1603.09382, block ``l`` of ``L``
      being skipped with probability ``l / L * drop_path``. What remains is scaled up in training,
      where the paper scales down in evaluation: the same in expectation.
    * ``whiten``: the frozen first layer of airbench, :class:`Whitening`, in front of the stem,
      followed by the activation; maps are a pixel smaller. :meth:`init_whitening` computes it.

    Start values are He et al.'s, arXiv 1502.01852, counted over the outputs as in torchvision.

    The constructor's arguments are recorded for ``save_pretrained`` and ``from_pretrained``, with
    ``weights=None``: a net whose own weights follow from a checkpoint needs no download.

    Args:
        in_channels: Channels of the images, 3 for colour.
        num_classes: Number of classes.
        depth: Layers with weights, which chooses the net.
        stem: ``small`` does not down-sample, for images around 32 pixels; ``large`` does so
            fourfold, for images around 224 pixels; ``auto`` takes ``small`` up to 64 pixels.
        image_size: Pixels a side of the images, or ``[H, W]``. It only chooses and checks the stem;
            the net takes any size from the smallest on.
        norm: Normalisation beside each convolution.
        num_groups: Groups of ``norm: group``; ``auto`` takes a count that divides.
        conv: Kind of the convolutions: ``plain``, ``ws`` (standardised filters, to go with group
            norm) or ``scaled_ws`` (to go without any norm).
        activation: Activation.
        pre_activation: Whether norm and activation come before a convolution instead of after.
        residual: Whether blocks have shortcuts; without, the net is the paper's plain one.
        drop_path: Probability of skipping the last block's branch for an image; earlier blocks
            are skipped less.
        dropout: Probability of dropping a feature before the last layer.
        zero_init_residual: Whether each branch starts at zero, by the weight of its last norm
            (arXiv 1706.02677). With ``norm: none`` every branch does.
        weights: Pretrained weights, a name in torchvision's registry, such as IMAGENET1K_V1. For
            another number of classes than theirs the last layer starts afresh.
        whiten: Whether a frozen layer of whitening filters comes first; small stem only.

    Raises:
        ValueError: If an option's value does not fit, or two options do not fit each other.
        OptionError: If weights can be neither downloaded nor read.
    """

    #: How the names of the last layers start, which are new for new classes.
    head_names: ClassVar[tuple[str, ...]] = ("fc",)

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 10,
        *,
        depth: Depth = 20,
        stem: Stem = "auto",
        image_size: int | list[int] = 32,
        norm: NormName = "batch",
        num_groups: int | Literal["auto"] = "auto",
        conv: ConvName = "plain",
        activation: ActivationName = "relu",
        pre_activation: bool = False,
        residual: bool = True,
        drop_path: float = 0.0,
        dropout: float = 0.0,
        zero_init_residual: bool = False,
        weights: str | None = None,
        whiten: bool = False,
    ) -> None:
        super().__init__()
        one_of("depth", depth, get_args(Depth))
        stem = choose_stem(stem, image_size)
        published = _DEPTHS[depth]
        layers = Layers(norm, num_groups, conv, activation, pre_activation, residual)
        check_image_net(in_channels, num_classes, norm, drop_path=drop_path, dropout=dropout)
        _check_combination(
            image_size, stem, published, layers, whiten, zero_init_residual, drop_path
        )
        if weights is not None and not published.projection:
            known = ", ".join(str(depth) for depth, net in _DEPTHS.items() if net.projection)
            remedy = f"torchvision has no weights {weights!r} for it; give one of {known}"
            raise refuse("depth", depth, remedy)
        entry = find_weights(
            weights,
            f"resnet{depth}",
            stem=stem,
            whiten=whiten,
            in_channels=in_channels,
            norm=norm,
            conv=conv,
            activation=activation,
            pre_activation=pre_activation,
            residual=residual,
        )

        # The names below are those of torchvision, so that its state dicts load unchanged.
        self.num_classes = num_classes
        self.whiten = whiten
        self.pre_activation = pre_activation
        width = published.widths[0]
        self.act = layers.make_activation()
        self.whitening = Whitening(in_channels) if whiten else None
        channels = in_channels if self.whitening is None else self.whitening.out_channels
        if stem == "small":
            self.conv1 = layers.make_conv(channels, width, 3)
            self.maxpool: nn.Module = nn.Identity()
        else:
            self.conv1 = layers.make_conv(channels, width, 7, stride=2)
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.bn1: nn.Module = nn.Identity() if pre_activation else layers.make_norm(width)

        stages = _make_stages(published, layers, drop_path)
        for name, stage in stages.items():
            self.add_module(name, stage)
        self._stages = list(stages)  # what an image passes through, in order, by name

        channels = published.widths[-1] * (_EXPANSION if published.bottleneck else 1)
        self.last_norm: nn.Module = layers.make_norm(channels) if pre_activation else nn.Identity()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, num_classes)

        self._init_parameters(activation_gain(activation), zero_init_residual)
        if entry is not None:
            load_pretrained(self, entry)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images.

        Args:
            x: Images ``(B, in_channels, H, W)``.

        Returns:
            Logits ``(B, num_classes)``.
        """
        if self.whitening is not None:
            x = self.act(self.whitening(x))
        x = self.conv1(x)
        if not self.pre_activation:
            x = self.act(self.bn1(x))
        x = self.maxpool(x)
        for name in self._stages:
            x = getattr(self, name)(x)
        if self.pre_activation:
            x = self.act(self.last_norm(x))
        x = torch.flatten(self.avgpool(x), start_dim=1)
        logits: Tensor = self.fc(self.dropout(x))
        return logits

    def init_whitening(self, images: Tensor) -> None:
        """Compute the filters of the whitening layer from training images, before training.

        Args:
            images: Normalised training images ``(B, in_channels, H, W)``, a few thousand or more.

        Raises:
            ValueError: If the net was built without ``whiten``.
        """
        if self.whitening is None:
            raise refuse("whiten", False, "init_whitening needs it true")
        self.whitening.fit(images)

    def _init_parameters(self, gain: float, zero_init_residual: bool) -> None:
        """Draw the start values; what is not drawn keeps torch's own."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            if isinstance(module, ScaledWSConv2d):
                nn.init.constant_(module.gain, gain)
            if zero_init_residual and isinstance(module, ResidualBlock):
                last_norm = getattr(module, f"bn{module.num_convs}")
                if not isinstance(last_norm, nn.Identity):
                    nn.init.zeros_(last_norm.weight)
        if self.whitening is not None:
            self.whitening.draw_orthogonal()
        elif isinstance(self.conv1, ScaledWSConv2d):
            nn.init.ones_(self.conv1.gain)  # no activation comes before it


def _make_stages(published: _Published, layers: Layers, drop_path: float) -> dict[str, nn.Module]:
    """Build the blocks of each stage, all but the first of which halve the map."""
    stages: dict[str, nn.Module] = {}
    channels, done, total = published.widths[0], 0, sum(published.blocks)
    for number, count in enumerate(published.blocks):
        stage = stages[f"layer{number + 1}"] = nn.Sequential()
        for position in range(count):
            done += 1
            block = ResidualBlock(
                channels,
                published.widths[number],
                bottleneck=published.bottleneck,
                stride=2 if position == 0 and number > 0 else 1,
                projection=published.projection,
                drop_path=drop_path * done / total,
                layers=layers,
            )
            stage.append(block)
            channels = block.out_channels
    return stages


def _check_combination(
    image_size: int | list[int],
    stem: Stem,
    published: _Published,
    layers: Layers,
    whiten: bool,
    zero_init_residual: bool,
    drop_path: float,
) -> None:
    """Refuse options that do not fit each other."""
    check_conv(layers.conv, layers.norm)
    for option, value in (("zero_init_residual", zero_init_residual), ("drop_path", drop_path)):
        if value and not layers.residual:
            remedy = "without residual connections nothing would come through a block; leave it out"
            raise refuse(option, value, remedy)
    if zero_init_residual and layers.pre_activation:
        remedy = "it zeroes the norm that ends a branch, and with pre_activation none does; set "
        raise refuse("zero_init_residual", True, remedy + "one of them to false")
    if whiten and stem == "large":
        remedy = f"it needs the small stem, which is large for image_size {image_size}; set stem "
        raise refuse("whiten", True, remedy + "to small or whiten to false")
    smallest = _WHITENING_SIDE if whiten else 1
    halvings = len(published.blocks) - 1 + (2 if stem == "large" else 0)
    two_pixels = 2**halvings + 1 + whiten if layers.norm == "instance" else smallest
    check_image_size(image_size, (smallest, two_pixels), stem, layers.norm)


class Whitening(nn.Conv2d):
    """The frozen first layer of airbench: 2x2 filters whose outputs are uncorrelated.

    ``(B, in, H, W)`` becomes ``(B, 8 in, H - 1, W - 1)``. The second half of the filters are the
    negatives of the first. They are part of the state dict; the bias alone is learned.

    Source: arXiv 2404.00498, which trains the bias in the first epochs only.

    Args:
        in_channels: Channels of the images.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__(in_channels, 2 * in_channels * _WHITENING_SIDE**2, _WHITENING_SIDE)
        self.weight.requires_grad_(False)

    @torch.no_grad()
    def draw_orthogonal(self) -> None:
        """Start from random orthogonal filters, until :meth:`fit` has seen images."""
        filters, _ = self.weight.chunk(2)
        nn.init.orthogonal_(filters)
        self.weight.copy_(torch.cat([filters, -filters]))

    @torch.no_grad()
    def fit(self, images: Tensor) -> None:
        """Compute the filters from normalised images ``(B, in, H, W)``.

        They are the eigenvectors of the second moments of 2x2 patches, each divided by
        ``sqrt(eigenvalue + 5e-4)``. The first half of the outputs, before the bias, then has a mean
        square of one wherever the eigenvalue is well above 5e-4.
        """
        size = self.weight[0].numel()
        moments = torch.zeros(size, size, dtype=torch.float64)
        patches = 0
        # In parts, since patches take four times the memory of their images.
        for chunk in torch.split(images, 1024):
            columns = F.unfold(chunk.float(), _WHITENING_SIDE)
            moments += torch.einsum("bil,bjl->ij", columns, columns).cpu().double()
            patches += columns.shape[0] * columns.shape[2]
        eigenvalues, eigenvectors = torch.linalg.eigh(moments / patches)
        filters = (eigenvectors / (eigenvalues + _WHITENING_EPS).sqrt()).T
        self.weight.copy_(torch.cat([filters, -filters]).view_as(self.weight))
