"""The pages of a demo in a real browser, which asks nobody but this machine."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("gradio", reason="pip install 'lightning-zoo[demo]'")
sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """A page that is open, with what it asked for and complained of."""

    def __init__(self, browser: Any, url: str) -> None:
        self.page = browser.new_page(viewport={"width": 1000, "height": 1000})
        self.asked: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on(
            "console", lambda said: self.errors.extend([said.text] if said.type == "error" else [])
        )
        self.url = url
        self.page.goto(url)

    def check(self) -> None:
        """Hold that all is well, and that nothing was asked of another machine."""
        far = [url for url in self.asked if not url.startswith((self.url, "data:", "blob:"))]
        assert far == []
        assert self.errors == []
        self.page.close()


def test_an_image_is_dropped_and_classified(
    browser: Any, serve: Callable[..., Any], tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "digit.png")
    served = serve("googlenet-digits", [str(tmp_path / "digit.png")])
    visit = Visit(browser, served.url)
    visit.page.locator("input[type=file]").first.set_input_files(str(tmp_path / "digit.png"))
    visit.page.get_by_role("button", name="Submit").click()
    heading = visit.page.get_by_test_id("label-output-value")
    sync_api.expect(heading).to_have_text(served.model(pixels).label, timeout=60_000)
    visit.page.screenshot(path=tmp_path / "image.png")
    visit.check()


def test_a_text_is_typed_and_classified(
    browser: Any, serve: Callable[..., Any], tmp_path: Path
) -> None:
    served, text = serve("gru-reviews"), "Dull, and far too long."
    visit = Visit(browser, served.url)
    visit.page.get_by_label("text").fill(text)
    visit.page.get_by_role("button", name="Submit").click()
    heading = visit.page.get_by_test_id("label-output-value")
    sync_api.expect(heading).to_have_text(served.model(text).label, timeout=60_000)
    visit.page.screenshot(path=tmp_path / "text.png")
    visit.check()


def test_a_chat_is_written_while_one_looks_on(
    browser: Any, serve: Callable[..., Any], tmp_path: Path
) -> None:
    served = serve("gpt-reviews")
    expected = "".join(served.model.stream("The film was"))
    visit = Visit(browser, served.url)
    box = visit.page.get_by_placeholder("the beginning of a text")
    box.fill("The film was")
    box.press("Enter")
    answer = visit.page.get_by_test_id("bot")
    sync_api.expect(answer).to_contain_text(expected[:20].strip(), timeout=60_000)
    sync_api.expect(answer).to_contain_text(expected[-20:].strip(), timeout=60_000)
    visit.page.screenshot(path=tmp_path / "chat.png")
    visit.check()
