"""What the nets check of their options, each refusal in one sentence."""

from typing import Literal

from datamodules.core.errors import at_least, between, one_of, refuse

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


def choose_stem(stem: Stem, image_size: int | None) -> Literal["small", "large"]:
    """Return the stem that ``auto`` stands for: ``small`` for images of up to 64 pixels a side.

    Args:
        stem: What the option was given.
        image_size: Pixels a side; None where the data is no images.

    Raises:
        OptionError: If the data is no images.
    """
    one_of("stem", stem, ("auto", "small", "large"))
    if image_size is None:
        remedy = "the data is a table, and this net takes images; choose the net MLP"
        raise refuse("image_size", None, remedy)
    if stem == "auto":
        return "small" if image_size <= _LARGEST_FOR_SMALL_STEM else "large"
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
