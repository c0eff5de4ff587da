"""What the nets check of their options, each refusal in one sentence."""

from typing import Literal, get_args

from datamodules.core.errors import at_least, between, one_of, refuse
from datamodules.core.options import height_and_width
from zoo.nets.layers.conv import PER_CHANNEL_AND_IMAGE
from zoo.nets.layers.norms import NormName

Stem = Literal["auto", "small", "large"]

_LARGEST_FOR_SMALL_STEM = 64


def check_counts(in_channels: int, num_classes: int) -> None:
    """Refuse a net without input or output.

    Args:
        in_channels: Channels of the images.
        num_classes: Number of classes.

    Raises:
        OptionError: If one of them is not positive.
    """
    check_positive(in_channels=in_channels, num_classes=num_classes)


def check_image_net(in_channels: int, num_classes: int, norm: NormName, **rates: float) -> None:
    """Refuse what no net of convolutions can be built with.

    Args:
        in_channels: Channels of the images.
        num_classes: Number of classes.
        norm: Normalisation.
        rates: Probabilities of dropping something, by option.

    Raises:
        OptionError: If one of them does not fit.
    """
    check_counts(in_channels, num_classes)
    one_of("norm", norm, get_args(NormName))
    for option, rate in rates.items():
        check_rate(option, rate)


def check_image_size(
    image_size: int | list[int],
    smallest: tuple[int, int],
    stem: Stem,
    norm: NormName,
    *remedies: str,
) -> None:
    """Refuse images of which a net's pools, or its norm, leave nothing.

    Args:
        image_size: Pixels a side, or ``[H, W]``.
        smallest: The least that the net's pools need; and, second, what a norm needs that has
            statistics per channel and image.
        stem: The net's stem.
        norm: Normalisation.
        remedies: What else would do, beside larger images.

    Raises:
        OptionError: If images are smaller.
    """
    needed = smallest[norm in PER_CHANNEL_AND_IMAGE]
    shorter = min(height_and_width(image_size))
    if shorter >= needed:
        return
    ways = [f"images of at least {needed} pixels", *remedies]
    if stem == "large":
        ways.append("stem 'small'")
    fault = f"with the {stem} stem no pixel is left before the last layer"
    if shorter >= smallest[0]:
        fault = f"it leaves a map of one pixel, of which norm {norm!r} makes nothing"
        ways.append("norm 'group'")
    raise refuse("image_size", image_size, f"{fault}; use {' or '.join(ways)}")


def choose_stem(stem: Stem, image_size: int | list[int] | None) -> Literal["small", "large"]:
    """Return the stem that ``auto`` stands for: ``small`` for images of up to 64 pixels a side.

    Args:
        stem: What the option was given.
        image_size: Pixels a side, or ``[H, W]``; None where the data is no images.

    Raises:
        OptionError: If the data is no images.
    """
    one_of("stem", stem, ("auto", "small", "large"))
    if image_size is None:
        remedy = "the data is a table, and this net takes images; choose the net MLP"
        raise refuse("image_size", None, remedy)
    if stem == "auto":
        return "small" if max(height_and_width(image_size)) <= _LARGEST_FOR_SMALL_STEM else "large"
    return stem


def check_rate(option: str, rate: float) -> None:
    """Refuse what is no probability of dropping something.

    Args:
        option: The option's name.
        rate: What it was given.

    Raises:
        OptionError: If it is negative, or leaves nothing.
    """
    between(option, rate, inclusive=False)


def check_text_counts(vocab_size: int, num_classes: int, pad_id: int) -> None:
    """Refuse a text net without vocabulary or output, or whose padding is no token.

    Args:
        vocab_size: Number of tokens.
        num_classes: Number of classes.
        pad_id: Id of the padding token.

    Raises:
        OptionError: If one of them does not fit.
    """
    check_positive(vocab_size=vocab_size, num_classes=num_classes)
    if not 0 <= pad_id < vocab_size:
        raise refuse("pad_id", pad_id, f"give a token's id, from 0 to {vocab_size - 1}")


def check_positive(**options: int) -> None:
    """Refuse options that are not at least 1.

    Args:
        options: Their values by name.

    Raises:
        OptionError: If one of them is not.
    """
    for option, value in options.items():
        at_least(option, value, 1)
