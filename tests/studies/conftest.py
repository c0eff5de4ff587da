"""What the tests of studies share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def refused(zoo: Callable[..., Any]) -> Callable[..., str]:
    """Runs a command that has to be refused before it leaves anything; gives the sentence."""

    def files() -> set[Path]:
        return {path for path in Path().rglob("*") if "__pycache__" not in path.parts}

    def run(command: str | list[str], *words: str) -> str:
        before = files()
        ended = zoo(command)
        assert ended.code == 2
        assert files() == before
        sentence = str(ended.err).removesuffix("\n")
        assert sentence.startswith("zoo: ")
        assert "\n" not in sentence
        assert "Traceback" not in sentence
        for word in words:
            assert word in sentence
        return sentence

    return run
