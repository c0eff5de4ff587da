"""Normalisation layers for feature maps ``(B, C, H, W)``, chosen by name.

Every kind computes the same formula and differs only in the axes ``S`` that share one mean and
one variance:

``y = (x - mean_S(x)) / sqrt(var_S(x) + eps) * weight_c + bias_c``

======== ===================== ==================================================================
kind     one mean per          axes averaged over
======== ===================== ==================================================================
batch    channel               ``(B, H, W)``; evaluation uses running averages instead
layer    image                 ``(C, H, W)``
group    image and group       ``(C / G, H, W)``
none     -                     the identity
======== ===================== ==================================================================

The variance is the biased one (divided by the count, not by the count less one); ``weight`` and
``bias`` are learned, one per channel, and start at 1 and 0.
"""

from typing import Literal, get_args

from torch import nn

NormName = Literal["batch", "layer", "group", "none"]

_MOST_GROUPS = 32  # the group count that Wu & He recommend


def make_norm(
    kind: NormName,
    num_channels: int,
    *,
    eps: float = 1e-5,
    momentum: float = 0.1,
    num_groups: int | Literal["auto"] = "auto",
) -> nn.Module:
    """Build the normalisation layer of that name.

    Sources: batch, Ioffe & Szegedy, arXiv 1502.03167; group, Wu & He, arXiv 1803.08494; layer, Ba
    et al., arXiv 1607.06450, in the form that Wu & He compare with (their section 3): statistics
    over ``(C, H, W)`` and one weight per channel, that is, group normalisation with one group. Ba
    et al. write one weight per neuron, which would tie the layer to one image size.

    Args:
        kind: Which layer, see the table of this module.
        num_channels: Channels ``C`` of the feature map.
        eps: Added to the variance before the root.
        momentum: Share of the newest batch in the running averages (batch only).
        num_groups: Groups ``G`` (group only). ``auto`` takes the largest count up to 32 that
            divides the channels. Up to 32 channels that leaves one channel per group, which is
            instance normalisation; give a count to have wider groups.

    Returns:
        A module that maps ``(B, C, H, W)`` to ``(B, C, H, W)``.

    Raises:
        ValueError: If ``kind`` is unknown, or ``num_channels`` or ``num_groups`` does not fit.
    """
    if num_channels < 1:
        raise ValueError(f"num_channels={num_channels} must be at least 1")
    match kind:
        case "batch":
            return nn.BatchNorm2d(num_channels, eps=eps, momentum=momentum)
        case "layer":
            return nn.GroupNorm(1, num_channels, eps=eps)
        case "group":
            return nn.GroupNorm(_count_groups(num_channels, num_groups), num_channels, eps=eps)
        case "none":
            return nn.Identity()
        case _:
            raise ValueError(f"norm={kind!r} is unknown; choose one of {get_args(NormName)}")


def _count_groups(num_channels: int, num_groups: int | Literal["auto"]) -> int:
    if num_groups == "auto":
        up_to = min(_MOST_GROUPS, num_channels)
        return max(g for g in range(1, up_to + 1) if num_channels % g == 0)
    if num_groups < 1 or num_channels % num_groups:
        raise ValueError(
            f"num_groups={num_groups} does not divide {num_channels} channels; "
            "choose a divisor or 'auto'"
        )
    return num_groups
