"""The errors that end a run with one sentence, and their exit codes."""

from __future__ import annotations

from datamodules.core.errors import OptionError, UserError
from datamodules.core.files import nearby

__all__ = [
    "OUT_OF_MEMORY",
    "UNSAVED",
    "Ended",
    "Interrupted",
    "NonFiniteLoss",
    "OptionError",
    "UserError",
    "go_on",
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


#: What is said where a training leaves nothing to go on from.
UNSAVED = "no checkpoint was saved"
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


class Ended(BaseException):
    """Something outside of the run's own work ends it.

    Not an ``Exception``, as with ``KeyboardInterrupt``: nothing but the command line may catch it.

    Args:
        sentence: What the user is told.
        code: The command line's exit code.
    """

    def __init__(self, sentence: str, code: int = 1) -> None:
        self.code = code
        super().__init__(sentence)


class Interrupted(Ended):
    """A signal asked the run to stop; the command line exits with 128 + the signal's number.

    Args:
        signum: The signal's number.
        saved: The checkpoint to go on from, if there is one.
        unsaved: What is said where there is none.
    """

    def __init__(self, signum: int, saved: str | None = None, unsaved: str = UNSAVED) -> None:
        super().__init__(f"stopped; {go_on(saved, unsaved)}", 128 + signum)


def go_on(saved: str | None, unsaved: str = UNSAVED) -> str:
    """Return how a run goes on from a checkpoint, in words."""
    return f"go on with --ckpt_path {nearby(saved)}" if saved else unsaved
