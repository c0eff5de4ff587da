"""The errors that end a run with one sentence, and their exit codes."""

from __future__ import annotations


class UserError(ValueError):
    """Something that the user can put right; the sentence names the option or file and a remedy.

    The command line prints it on stderr without a traceback and exits with 2.
    """


class NonFiniteLoss(FloatingPointError):
    """A loss that is not finite; the command line exits with 1.

    Args:
        name: The loss as it is logged, ``train/loss`` say.
        step: The optimiser step (counted from 1) at which it was seen first.
    """

    def __init__(self, name: str, step: int) -> None:
        self.step = step
        super().__init__(f"{name} is not finite at step {step}")


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
