"""The errors that end a run with one sentence, and their exit codes."""

from __future__ import annotations

from datamodules.core.errors import OptionError, UserError

__all__ = [
    "OUT_OF_MEMORY",
    "Interrupted",
    "NonFiniteLoss",
    "OptionError",
    "UserError",
    "is_out_of_memory",
]


class NonFiniteLoss(FloatingPointError):
    """A loss that is not finite; the command line exits with 1.

    Args:
        name: The loss as it is logged, ``train/loss`` say.
        step: The optimiser step (counted from 1) at which it was seen first.
        by_training: Whether the training so far may have led there, so that a lower learning rate
            may avoid it.
    """

    def __init__(self, name: str, step: int, *, by_training: bool) -> None:
        self.step = step
        self.by_training = by_training
        super().__init__(f"{name} is not finite at step {step}")


#: What is said where memory ran out.
OUT_OF_MEMORY = (
    "there is not enough memory for this; set a smaller data.batch_size (with "
    "trainer.accumulate_grad_batches for the same step), a smaller data.max_length or image_size, "
    "trainer.precision bf16-mixed, or of a pretrained net lora or gradient_checkpointing"
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that the host's or a device's memory ran out."""
    is_device = type(error).__name__ == "OutOfMemoryError"  # torch's, which is not imported here
    text = str(error)
    return is_device or isinstance(error, MemoryError) or "can't allocate memory" in text


class Interrupted(BaseException):
    """A signal asked the run to stop; the command line exits with 128 + the signal's number.

    Not an ``Exception``, as with ``KeyboardInterrupt``: nothing but the command line may catch it.

    Args:
        signum: The signal's number.
        saved: The checkpoint that holds the last finished step, if there is one.
    """

    def __init__(self, signum: int, saved: str | None = None) -> None:
        self.signum = signum
        self.saved = saved
        super().__init__(signum)
