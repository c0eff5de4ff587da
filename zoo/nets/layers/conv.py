"""Convolutions: with norm and activation, and with standardised weights."""

import math
from typing import Literal, TypedDict, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datamodules.core.errors import UserError, one_of, refuse
from zoo.nets.layers.activations import ActivationName, activation_gain, make_activation
from zoo.nets.layers.norms import NormName, make_norm

ConvName = Literal["plain", "ws", "scaled_ws"]


class WSConv2d(nn.Conv2d):
    """A convolution whose filters are standardised whenever they are used.

    ``w' = (w - mean(w)) / sqrt(var(w) + eps)``, with mean and biased variance over each filter's
    ``N = in_channels / groups * height * width`` weights.

    Source: Qiao et al., arXiv 1903.10520, for use together with group normalisation. The paper
    leaves eps open; 1e-6 is timm's. A filter has a norm of ``sqrt(N)`` then, so a norm has to
    follow that takes the scale away again.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Side of the kernel, or height and width.
        stride: Step of the kernel.
        padding: Zeros around the map.
        groups: Groups of channels that do not mix.
        bias: Whether to add a bias.

    Raises:
        ValueError: If a filter has one weight only, which standardises to nothing.

    >>> import torch
    >>> filters = WSConv2d(3, 8, kernel_size=3).standardised_weight()
    >>> filters.mean(dim=(1, 2, 3)).allclose(torch.zeros(8), atol=1e-6)
    True
    >>> filters.var(dim=(1, 2, 3), correction=0).allclose(torch.ones(8), atol=1e-3)
    True
    """

    eps = 1e-6

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
        groups: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=bias
        )
        self.fan_in = self.weight[0].numel()
        if self.fan_in == 1:
            raise UserError(
                "options conv 'ws' and 'scaled_ws' need filters of more than one weight, and a "
                f"{self.kernel_size[0]}x{self.kernel_size[1]} convolution of {in_channels} "
                f"channels in {groups} groups has one; choose 'plain'"
            )

    def standardised_weight(self) -> Tensor:
        """Return the filters that the convolution uses, ``(out, in / groups, height, width)``."""
        return _standardise(self.weight, None, self.eps)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, in, H, W)`` to ``(B, out, H', W')``."""
        y: Tensor = self._conv_forward(x, self.standardised_weight(), self.bias)
        return y


class ScaledWSConv2d(WSConv2d):
    """A convolution that keeps the variance of its input, so that no norm has to.

    ``w' = gain_o * (w - mean(w)) / sqrt((var(w) + eps) * N)``, with mean and biased variance over
    each filter's ``N`` weights and one learned gain per output channel, which starts at 1.

    Source: Brock et al., arXiv 2101.08692, with the learned gain of arXiv 2102.06171. After an
    activation the gain ought to start at that activation's
    :func:`~zoo.nets.layers.activations.activation_gain`, which the papers multiply the activation
    by.
    eps is timm's; the papers take the maximum of ``N var(w)`` and 1e-4.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Side of the kernel, or height and width.
        stride: Step of the kernel.
        padding: Zeros around the map.
        groups: Groups of channels that do not mix.
        bias: Whether to add a bias.

    Raises:
        ValueError: If a filter has one weight only, which standardises to nothing.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
        groups: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            groups=groups,
            bias=bias,
        )
        self.gain = nn.Parameter(torch.ones(out_channels))

    def standardised_weight(self) -> Tensor:
        """Return the filters that the convolution uses, ``(out, in / groups, height, width)``."""
        return _standardise(self.weight, self.gain / math.sqrt(self.fan_in), self.eps)


def make_conv(
    kind: ConvName,
    in_channels: int,
    out_channels: int,
    kernel_size: int | tuple[int, int],
    *,
    stride: int = 1,
    padding: int | tuple[int, int] = 0,
    groups: int = 1,
    bias: bool = False,
) -> nn.Conv2d:
    """Build the convolution of that name; all have ``weight`` and ``bias`` in their state dict.

    Args:
        kind: ``plain``; ``ws`` standardises the filters, :class:`WSConv2d`, to go with group norm;
            ``scaled_ws`` also scales them, :class:`ScaledWSConv2d`, to go without any norm.
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Side of the kernel, or height and width.
        stride: Step of the kernel.
        padding: Zeros around the map.
        groups: Groups of channels that do not mix.
        bias: Whether to add a bias.

    Returns:
        A module that maps ``(B, in, H, W)`` to ``(B, out, H', W')``.

    Raises:
        ValueError: If ``kind`` is unknown, or does not fit the sizes.
    """
    one_of("conv", kind, get_args(ConvName))
    conv_class = {"plain": nn.Conv2d, "ws": WSConv2d, "scaled_ws": ScaledWSConv2d}[kind]
    conv: nn.Conv2d = conv_class(
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        padding=padding,
        groups=groups,
        bias=bias,
    )
    return conv


def check_conv(conv: ConvName, norm: NormName) -> None:
    """Refuse convolutions whose filters have a scale that no norm takes away.

    Args:
        conv: Kind of convolution.
        norm: Normalisation that follows.

    Raises:
        OptionError: If filters are standardised and there is no norm.
    """
    if conv == "ws" and norm == "none":
        raise refuse(
            "conv",
            conv,
            "it needs a norm, which takes the scale of its filters away; choose conv "
            "'scaled_ws', which keeps the scale, or norm 'group'",
        )


def _standardise(weight: Tensor, gain: Tensor | None, eps: float) -> Tensor:
    """Filter with mean 0 and variance ``gain^2``, each over its own weights."""
    # Group norm of one map, with one group for each filter, is that in one fused call.
    filters = weight.flatten(1).unsqueeze(0)
    return F.group_norm(filters, len(weight), gain, eps=eps).view_as(weight)


# Norms with a mean per channel and image, which of a map of one pixel leave nothing.
PER_CHANNEL_AND_IMAGE: tuple[NormName, ...] = ("instance", "frn")


# Norms without a bias of their own.
WITHOUT_BIAS: tuple[NormName, ...] = ("rms", "none")


class ConvSettings(TypedDict, total=False):
    """What all convolutions of a net have in common; see ``ConvBlock``."""

    norm: NormName
    num_groups: int | Literal["auto"]
    conv: ConvName
    activation: ActivationName
    bias: bool
    eps: float | None


class ConvBlock(nn.Module):
    """Convolution, normalisation, activation: ``(B, in, H, W)`` to ``(B, out, H', W')``.

    With the default padding, half the kernel, a kernel of odd size at stride 1 keeps H and W.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Side of the kernel, or height and width.
        stride: Step of the kernel.
        padding: Zeros around the map; by default half the kernel.
        norm: Normalisation between convolution and activation.
        num_groups: Groups of group normalisation.
        conv: Whether filters are standardised. With ``scaled_ws`` their gain starts at that of
            the activation, so that blocks in a row keep the scale of their signal.
        activation: What follows the normalisation.
        bias: Whether the convolution adds a bias.
        eps: Added to the variance by the normalisation; by default what goes with its kind.

    Raises:
        ValueError: If an option is unknown, or the filters' scale is one that no norm takes away.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        stride: int = 1,
        padding: int | None = None,
        norm: NormName = "batch",
        num_groups: int | Literal["auto"] = "auto",
        conv: ConvName = "plain",
        activation: ActivationName = "relu",
        bias: bool = False,
        eps: float | None = None,
    ) -> None:
        super().__init__()
        check_conv(conv, norm)
        height, width = (kernel_size,) * 2 if isinstance(kernel_size, int) else kernel_size
        self.conv = make_conv(
            conv,
            in_channels,
            out_channels,
            (height, width),
            stride=stride,
            padding=(height // 2, width // 2) if padding is None else padding,
            bias=bias,
        )
        if isinstance(self.conv, ScaledWSConv2d):
            nn.init.constant_(self.conv.gain, activation_gain(activation))
        # Named bn whatever the kind, because that is the name in torchvision's state dict.
        self.bn = make_norm(norm, out_channels, eps=eps, num_groups=num_groups)
        self.activation = make_activation(activation, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, in, H, W)`` to ``(B, out, H', W')``."""
        y: Tensor = self.activation(self.bn(self.conv(x)))
        return y


def draw_start_values(net: nn.Module, truncated_std: float | None) -> None:
    """Draw the start values of an inception net; what is not drawn keeps torch's own.

    Args:
        net: The net.
        truncated_std: Deviation of torchvision's truncated normal, for convolutions and linear
            layers. None draws those of He et al., arXiv 1502.01852, for convolutions alone.
    """
    for module in net.modules():
        if truncated_std is not None and isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(module.weight, mean=0.0, std=truncated_std, a=-2, b=2)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
