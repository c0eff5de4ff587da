"""The parser of the verbs that build no task and no data: ``export``, ``results``."""

from __future__ import annotations

import argparse
from typing import NoReturn

from zoo.errors import UserError


class VerbParser(argparse.ArgumentParser):
    """A parser whose errors are the command line's; ``prog`` is the whole verb, ``zoo export``."""

    def error(self, message: str) -> NoReturn:
        """Raise what the user is told.

        Raises:
            UserError: Always.
        """
        raise UserError(f"{self.prog.removeprefix('zoo ')}: {message}; see `{self.prog} --help`")
