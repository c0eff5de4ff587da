"""What the tests of pages share: a browser that is there, and pages of small nets."""

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from zoo.export.whole import Whole


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    """Chromium without a window, if it is installed."""
    sync_api = pytest.importorskip("playwright.sync_api")
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium is installed (CHROMIUM names one)")
    with sync_api.sync_playwright() as player:
        opened = player.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def make_page(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return what makes a page of shipped weights, once: its folder, and what was exported."""
    made: dict[str, Any] = {}

    def make(weights: str, *options: str) -> "tuple[Any, Whole]":
        if weights not in made:
            from zoo.cli import explain

            out = tmp_path_factory.mktemp("page") / weights
            kept: list[Whole] = []
            captured = explain._captured

            def keep(*args: Any) -> Any:
                result = captured(*args)
                kept.append(result[0])
                return result

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(explain, "_captured", keep)
                assert explain.explain(["--weights", weights, *options, str(out)]) == 0
            made[weights] = out, kept[0]
        return made[weights]

    return make
