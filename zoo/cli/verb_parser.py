"""The parser of the verbs that build no task and no data: ``export``, ``results``."""

from __future__ import annotations

import argparse
import re
from typing import NoReturn

from zoo.errors import UserError

#: argparse's sentences, and the command line's.
_SENTENCES = {
    r"^argument (--\w+): expected (at least )?one argument$": r"option \1 needs a value",
    r"^argument (--\w+): expected (\d+) arguments$": r"option \1 needs \2 values",
    r"^the following arguments are required: (--\w+).*$": r"option \1 is missing",
    r"^one of the arguments (--\w+) .*is required$": r"option \1 is missing",
    r"^argument (--\w+): not allowed with argument (--\w+)$": r"options \1 and \2 name the same: "
    "leave one of them out",
    r"^unrecognized arguments: (--[\w.]+).*$": r"option \1 is not known",
    r"^unrecognized arguments: (\S+).*$": r"option names start with two dashes, unlike '\1'",
}


class VerbParser(argparse.ArgumentParser):
    """A parser whose errors are the command line's; ``prog`` is the whole verb, ``zoo export``."""

    def error(self, message: str) -> NoReturn:
        """Raise what the user is told.

        Raises:
            UserError: Always.
        """
        for pattern, sentence in _SENTENCES.items():
            message = re.sub(pattern, sentence, message)
        raise UserError(f"{message}; see `{self.prog} --help`")
