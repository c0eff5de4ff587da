"""The one error that a user's data or options can cause."""


class DataError(ValueError):
    """A fault that the user can mend: one sentence names the option or file and a way out."""
