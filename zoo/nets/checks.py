"""What the nets check of their options, each refusal in one sentence."""

import difflib
from typing import Literal

Stem = Literal["auto", "small", "large"]

_LARGEST_FOR_SMALL_STEM = 64


def check_choice(option: str, value: object, choices: tuple[object, ...]) -> None:
    """Refuses a value outside a fixed set, and names the nearest one of it.

    Args:
        option: The option's name.
        value: What it was given.
        choices: What it may be.

    Raises:
        ValueError: The value is not among the choices.
    """
    if value in choices:
        return
    names = [str(choice) for choice in choices]
    near = difflib.get_close_matches(str(value), names, n=1) if isinstance(value, str) else []
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(f"{option}={value!r} is unknown; {hint}choose one of {', '.join(names)}")


def check_counts(in_channels: int, num_classes: int) -> None:
    """Refuses a net without input or output.

    Args:
        in_channels: Channels of the images.
        num_classes: Number of classes.

    Raises:
        ValueError: One of them is not positive.
    """
    if in_channels < 1:
        raise ValueError(f"in_channels={in_channels} must be at least 1 (3 for colour images)")
    if num_classes < 1:
        raise ValueError(f"num_classes={num_classes} must be at least 1")


def choose_stem(stem: Stem, image_size: int | None) -> Literal["small", "large"]:
    """Return the stem that ``auto`` stands for: ``small`` for images of up to 64 pixels a side.

    Args:
        stem: What the option was given.
        image_size: Pixels a side; None where the data is no images.

    Raises:
        ValueError: The data is no images.
    """
    check_choice("stem", stem, ("auto", "small", "large"))
    if image_size is None:
        raise ValueError(
            "image_size=None: the data is a table, and this net takes images; choose the net MLP"
        )
    if stem == "auto":
        return "small" if image_size <= _LARGEST_FOR_SMALL_STEM else "large"
    return stem


def check_rate(option: str, rate: float) -> None:
    """Refuses what is no probability of dropping something.

    Args:
        option: The option's name.
        rate: What it was given.

    Raises:
        ValueError: It is negative, or leaves nothing.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"{option}={rate} must be at least 0 and less than 1")


def check_text_counts(vocab_size: int, num_classes: int, pad_id: int) -> None:
    """Refuses a text net without vocabulary or output, or whose padding is no token.

    Args:
        vocab_size: Number of tokens.
        num_classes: Number of classes.
        pad_id: Id of the padding token.

    Raises:
        ValueError: One of them does not fit.
    """
    if vocab_size < 1:
        raise ValueError(
            f"vocab_size={vocab_size} must be at least 1; give the tokenizer a text to learn from"
        )
    if num_classes < 1:
        raise ValueError(f"num_classes={num_classes} must be at least 1")
    if not 0 <= pad_id < vocab_size:
        raise ValueError(f"pad_id={pad_id} must be a token's id, from 0 to {vocab_size - 1}")


def check_positive(**options: int) -> None:
    """Refuses options that are not at least 1.

    Args:
        options: Their values by name.

    Raises:
        ValueError: One of them is not.
    """
    for option, value in options.items():
        if value < 1:
            raise ValueError(f"{option}={value} must be at least 1")
