"""What the tests of the command line share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Refuse = Callable[..., str]


def files() -> set[str]:
    """All that lies in the working folder, but for the cache of decoded images."""
    paths = [path for path in Path().rglob("*") if "__pycache__" not in path.parts]
    return {str(path) for path in paths if path.parts[0] != "cache"}


@pytest.fixture
def refuse(zoo: Callable[..., Any]) -> Refuse:
    """Runs a command line that has to be refused; gives the sentence."""

    def run(command: str | list[str], *words: str) -> str:
        before = files()
        ended = zoo(command)
        assert ended.code == 2
        assert files() == before
        assert ended.err.startswith("zoo: ")
        assert ended.err.endswith("\n")
        sentence = ended.err.removeprefix("zoo: ").removesuffix("\n")
        assert "\n" not in sentence
        assert len(sentence) < 400
        for word in ("Traceback", "usage:", "Namespace", "<class", "Subtypes"):
            assert word not in sentence
        for word in words:
            assert word in sentence
        return sentence

    return run
