"""Normalisation layers for feature maps ``(B, C, H, W)`` and convolutions to go with them.

Every norm divides by a statistic of the values that share it, ``S``, and then scales and shifts by
learned numbers, one per channel, which start at 1 and 0. Those that centre compute

``y = (x - mean_S(x)) / sqrt(var_S(x) + eps) * weight_c + bias_c``

with the biased variance (divided by the count, not by the count less one); those that do not,

``y = x / sqrt(mean_S(x^2) + eps) * weight_c + bias_c``

======== ================= ================ ======= ===============================================
kind     one S per         axes in S        centred when to use it
======== ================= ================ ======= ===============================================
batch    channel           ``B, H, W``      yes     the first choice for images in batches of 16 or
                                                    more on each device
group    image and group   ``C / G, H, W``  yes     small batches, down to one image: the safest
                                                    choice at batch size 1
layer    image             ``C, H, W``      yes     as group with one group; transformers, tables
instance image and channel ``H, W``         yes     style transfer; loses what a channel's mean
                                                    says, so it classifies worse
rms      image             ``C, H, W``      no      as layer, a little cheaper in theory, no bias
frn      image and channel ``H, W``         no      batch size 1 with a learned threshold after it
none     -                 -                -       the identity; scaled weight standardisation
                                                    keeps the scale instead
======== ================= ================ ======= ===============================================

Only batch norm mixes the images of a batch: what it makes of one image depends on the others, in
training; in evaluation it uses running averages and does not. All others treat each image alone,
in the same way in training and in evaluation, and so at batch size 1. There, batch norm of a 1x1
map has one value per channel and no variance (torch raises), and so has instance norm at any batch
size.
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from datamodules.core.errors import one_of, refuse

NormName = Literal["batch", "layer", "instance", "group", "rms", "frn", "none"]
"""Normalisation of feature maps; the table above compares them.

Names:
    batch: Each channel over batch and pixels; the first choice from 16 images a device on.
    layer: Each image over channels and pixels; for transformers and tables.
    instance: Each image and channel over the pixels; for style transfer.
    group: Each image over groups of channels; the safest choice for small batches.
    rms: As layer, without taking the mean away and without a bias (arXiv 1910.07467).
    frn: Filter response normalisation, each image and channel, not centred (arXiv 1911.09737).
    none: No normalisation; goes with conv scaled_ws and adaptive_clip.
"""

_EPS: dict[NormName, float] = {"rms": 1e-6, "frn": 1e-6}
_EPS_OF_MOST = 1e-5
_MOST_GROUPS = 32  # the group count that Wu & He recommend
_FEWEST_IN_GROUP = 8  # smaller groups have a higher error in their comparison


class RMSNorm2d(nn.Module):
    """Root mean square normalisation of whole images: ``(B, C, H, W)`` to the same shape.

    ``y = x / sqrt(mean_{C,H,W}(x^2) + eps) * weight_c``

    Source: Zhang & Sennrich, arXiv 1910.07467. They normalise vectors of features; here the vector
    is the whole map ``(C, H, W)``, as in the image form of layer normalisation, and the weight is
    one per channel where theirs is one per feature, which would tie the layer to one image size.
    Statistics are in float32 at least.

    Args:
        num_channels: Channels ``C``.
        eps: Added to the mean square before the root.
        affine: Whether the weight is learned; without, it is 1.
    """

    weight: nn.Parameter | None

    def __init__(self, num_channels: int, *, eps: float = 1e-6, affine: bool = True) -> None:
        super().__init__()
        self.num_channels = num_channels
        self.eps = eps
        weight = nn.Parameter(torch.ones(num_channels)) if affine else None
        self.register_parameter("weight", weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to ``(B, C, H, W)``."""
        scale = _inverse_rms(x, (1, 2, 3), self.eps)
        if self.weight is not None:
            scale = scale * self.weight.view(-1, 1, 1)
        return x * scale.to(x.dtype)

    def extra_repr(self) -> str:
        """Return the arguments, for ``print``."""
        return f"{self.num_channels}, eps={self.eps}, affine={self.weight is not None}"


class FilterResponseNorm2d(nn.Module):
    """Filter response normalisation: ``(B, C, H, W)`` to the same shape.

    ``y = x / sqrt(mean_{H,W}(x^2) + eps) * weight_c + bias_c``

    Source: Singh & Krishnan, arXiv 1911.09737. Deviations: the paper follows it by a thresholded
    linear unit ``max(y, tau_c)`` with a learned ``tau``, here it is followed by the net's own
    activation; and eps is fixed, where the paper also learns it for maps of one pixel. Statistics
    are in float32 at least.

    Args:
        num_channels: Channels ``C``.
        eps: Added to the mean square before the root.
        affine: Whether weight and bias are learned; without, they are 1 and 0.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(self, num_channels: int, *, eps: float = 1e-6, affine: bool = True) -> None:
        super().__init__()
        self.num_channels = num_channels
        self.eps = eps
        weight = nn.Parameter(torch.ones(num_channels)) if affine else None
        self.register_parameter("weight", weight)
        bias = nn.Parameter(torch.zeros(num_channels)) if affine else None
        self.register_parameter("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to ``(B, C, H, W)``."""
        scale = _inverse_rms(x, (2, 3), self.eps)
        if self.weight is None or self.bias is None:
            return x * scale.to(x.dtype)
        scale = (scale * self.weight.view(-1, 1, 1)).to(x.dtype)
        return torch.addcmul(self.bias.to(x.dtype).view(-1, 1, 1), x, scale)

    def extra_repr(self) -> str:
        """Return the arguments, for ``print``."""
        return f"{self.num_channels}, eps={self.eps}, affine={self.weight is not None}"


def make_norm(
    kind: NormName,
    num_channels: int,
    *,
    eps: float | None = None,
    momentum: float = 0.1,
    affine: bool = True,
    num_groups: int | Literal["auto"] = "auto",
    ndim: Literal[2, 4] = 4,
) -> nn.Module:
    """Build the normalisation layer of that name.

    Sources: batch, Ioffe & Szegedy, arXiv 1502.03167; group, Wu & He, arXiv 1803.08494; instance,
    Ulyanov et al., arXiv 1607.08022; rms and frn, see :class:`RMSNorm2d` and
    :class:`FilterResponseNorm2d`; layer, Ba et al., arXiv 1607.06450, in the form that Wu & He
    compare with (their section 3): statistics over ``(C, H, W)`` and one weight per channel, that
    is, group normalisation with one group. Ba et al. write one weight per neuron, which would tie
    the layer to one image size.

    Args:
        kind: Which layer, see the table of this module.
        num_channels: Channels ``C`` of the feature map.
        eps: Added to the variance or mean square before the root; by default 1e-6 for frn (its
            paper) and rms (as LLaMA, arXiv 2302.13971, has it), 1e-5 for the others.
        momentum: Share of the newest batch in the running averages (batch only).
        affine: Whether to scale and shift by learned numbers.
        num_groups: Groups ``G`` (group only). ``auto`` takes the largest count up to 32 that
            divides the channels and leaves at least 8 of them to a group, or else one group.
            (One channel to a group would be instance normalisation.)
        ndim: Dimensions of the input: 4 for maps ``(B, C, H, W)``, 2 for tables ``(B, C)``. For
            tables, layer and rms average over ``C`` and have one weight per feature, as in their
            papers; instance and frn average over pixels, of which tables have none.

    Returns:
        A module that gives tensors of the shape it is given.

    Raises:
        ValueError: If ``kind`` is unknown or has no form for tables, or ``num_channels`` or
            ``num_groups`` does not fit.
    """
    one_of("norm", kind, get_args(NormName))
    if num_channels < 1:
        raise refuse("num_channels", num_channels, "give 1 or more")
    if ndim == 2 and kind in ("instance", "frn"):
        raise refuse(
            "norm",
            kind,
            "it averages over the pixels of a channel, and a table has none; choose 'batch', "
            "'layer', 'group', 'rms' or 'none'",
        )
    eps = _EPS.get(kind, _EPS_OF_MOST) if eps is None else eps
    match kind:
        case "batch":
            batch_norm = nn.BatchNorm2d if ndim == 4 else nn.BatchNorm1d
            return batch_norm(num_channels, eps=eps, momentum=momentum, affine=affine)
        case "layer" if ndim == 2:
            return nn.LayerNorm(num_channels, eps=eps, elementwise_affine=affine)
        case "layer":
            return nn.GroupNorm(1, num_channels, eps=eps, affine=affine)
        case "instance":
            return nn.InstanceNorm2d(num_channels, eps=eps, affine=affine)
        case "group":
            groups = _count_groups(num_channels, num_groups)
            return nn.GroupNorm(groups, num_channels, eps=eps, affine=affine)
        case "rms" if ndim == 2:
            return nn.RMSNorm(num_channels, eps=eps, elementwise_affine=affine)
        case "rms":
            return RMSNorm2d(num_channels, eps=eps, affine=affine)
        case "frn":
            return FilterResponseNorm2d(num_channels, eps=eps, affine=affine)
        case "none":
            return nn.Identity()


def _inverse_rms(x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    """``1 / sqrt(mean(x^2) + eps)`` over some axes, which stay with length 1.

    The norm's backward pass reads the map once, where that of ``x.square().mean()`` also writes
    and reads the squares, at twice the time.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    norm = torch.linalg.vector_norm(x, dim=axes, keepdim=True, dtype=dtype)
    count = math.prod(x.shape[axis] for axis in axes)
    return torch.rsqrt(norm.square() / count + eps)


def _count_groups(num_channels: int, num_groups: int | Literal["auto"]) -> int:
    if num_groups == "auto":
        most = max(1, min(_MOST_GROUPS, num_channels // _FEWEST_IN_GROUP))
        return max(g for g in range(1, most + 1) if num_channels % g == 0)
    if num_groups < 1 or num_channels % num_groups:
        raise refuse(
            "num_groups",
            num_groups,
            f"it does not divide {num_channels} channels; choose a divisor or 'auto'",
        )
    return num_groups
